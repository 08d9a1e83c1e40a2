# Sourced by lab/machine/run.sh: the AMD lab's machine with a NIC that has virtual functions behind
# an IOMMU, and a world outside. CPUs are AMD's as before; the IOMMU is Intel's, as QEMU's
# amd-iommu does not work with VFIO.
#
# The machine has ACPI, whose tables tell of the IOMMU. What is behind the NIC is in the emulator, needs no network of
# the build machine, and gets none: 10.0.2.2 answers pings, and 10.0.2.100 has TCP services, by a program for each
# connection: port 7 sends back what it gets, 9 takes all, and 19 sends without end.
# shellcheck shell=bash disable=SC2034

world=user,id=world,restrict=on
world=$world,guestfwd=tcp:10.0.2.100:7-cmd:cat
world=$world,guestfwd=tcp:10.0.2.100:19-cmd:"cat /dev/zero"
world=$world,guestfwd=tcp:10.0.2.100:9-cmd:"dd of=/dev/null bs=64k"
nic=(-machine q35 -device "intel-iommu,intremap=on,caching-mode=on"
	-device "pcie-root-port,id=nic,chassis=1,slot=1" -netdev "$world" -device "igb,bus=nic,netdev=world,mac=52:54:00:76:32:01")
for m in vfio-pci-core vfio-pci; do modules_more="${modules_more-} $MODULES/drivers/vfio/pci/$m.ko"; done
