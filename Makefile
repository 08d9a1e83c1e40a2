# vm2vm: one KVM guest reaches another guest's approved pages.
#
#   make                          Linux 6.12 with our files, built, and our selftests
#   make run CMD='...'            run a command in the lab; LAB=amd|intel|tlb|vf KERNEL=base|debug|light|debian
#                                 (make exits with 2 if it fails, lab/machine/run.sh as it does)
#   make shell                    a root shell in the lab; Ctrl-a x quits (intel: exit)
#   make demo                     the demonstration: three QEMU VMs
#   make demo-core                that of the kernel's calls alone, by a VMM of our own
#   make check                    the tests; FORCE=1: also those that passed and have not
#                                 changed; LONG=1: all there are, and far longer;
#                                 PLAN=1: only say which would run
#   make qemu                     QEMU 10.0 with our object and devices
#   make links                    its tests; ASAN=1: by a QEMU that checks itself
#   make fuzz [FUZZ=60]            what QEMU does with nonsense from a peer
#   make bench                    what it costs, in instructions
#   make compare [AGAIN=1]        what a packet costs, by vm2vm and by what else there is, as a
#                                 table and pictures in build/compare; CARRIERS='ivshmem': those;
#                                 AGAIN=1: do two runs agree?
#   make stock                    KVM's own selftests, with the series and without
#   make mutants [MUTANT=name]    does the suite notice a broken kernel, a broken QEMU?
#   make mutants AUTO=N [SEED=S]  the same with N small mutants, drawn by chance
#   make deb                      all of our packages for Debian, but QEMU, in build/deb
#   make deb-qemu [ALL=1]          Debian's QEMU with vm2vm, for Debian 13: for x86, or all of it;
#                                 QUICK=1: not optimised, to try the packages
#   make repo [KEY=...]            a repository of them for apt, signed by that key of gpg's
#   make dkms                     only the one that builds KVM with vm2vm for Debian's kernels
#   make guest                    only those for the backend's guest: driver and program
#   make series                   both series as mails for git am, in build/mails
#   make kcsan                    does KCSAN see data races in our files?
#   make nconfig-check            with the feature off, KVM comes out as without us
#   make hooks-check              each file is reached by one hook
#   make lint                     checkpatch, W=1, sparse
#   make menuconfig               which options of ours the kernels here have
#   make clean
#   make help                     this
#
# What is built goes to $(BUILD).

BUILD ?= build
override BUILD := $(abspath $(BUILD))
DEMO_ARGS ?= --file $(BUILD)/base/vmlinux
# Of Linux's own: what the hooks touch must work as before
LINUX_TESTS = set_memory_region_test coalesced_io_test pre_fault_memory_test
export LINUX_TESTS DEMO_ARGS BUILD LAB KERNEL TIMEOUT SMP MEM COUNT LOG FORCE PLAN MUTANT ASAN FUZZ LONG KEY QUICK DEBUG AGAIN

.PHONY: all tree base debug light vf debian selftests qemu run shell demo demo-core links fuzz check bench compare series deb deb-qemu repo dkms guest stock mutants kcsan nconfig-check hooks-check lint menuconfig clean help
.NOTPARALLEL:

all: base selftests

tree:
	@lab/build/deps.sh
	@lab/build/tree.sh
base: tree
	@lab/build/kernel.sh base
debug: tree
	@lab/build/kernel.sh debug
light: tree
	@lab/build/kernel.sh light
vf: tree
	@lab/build/kernel.sh vf
debian: tree
	@lab/dkms/debian.sh >&2
selftests: tree
	@lab/build/selftests.sh $(LINUX_TESTS)

# $(value) and the quotes: CMD reaches the shell in the lab as it was written
quoted = '$(subst ','\'',$(value CMD))'
kernel = $(if $(filter debug light debian,$(KERNEL)),$(KERNEL),$(if $(filter vf,$(LAB)),vf,base))
run: $(kernel) selftests
	@[ -n $(quoted) ] || { echo "usage: make run CMD='...' [LAB=amd|intel|tlb|vf] [KERNEL=base|debug|light|debian]" >&2; exit 2; }
	@CMD=$(quoted) lab/machine/run.sh
shell: $(kernel) selftests
	@CMD= lab/machine/run.sh
qemu:
	@lab/build/vmm.sh $(if $(ASAN),asan,plain)
demo: base
	@lab/vms/links.sh demo.py
links: base
	@lab/vms/links.sh link_peer_test.py
	@lab/vms/links.sh link_test.py
fuzz:
	@lab/check/fuzz.sh
demo-core: base selftests
	@KERNEL=base CMD='$(BUILD)/selftests/vm2vm_demo $(DEMO_ARGS)' lab/machine/run.sh

check: tree
	@lab/check/check.sh
bench: base selftests
	@lab/check/bench.sh
compare: base
	@lab/compare/compare.sh $(CARRIERS)
series:
	@lab/build/series.sh
deb:
	@lab/packages/deb.sh
deb-qemu:
	@lab/packages/qemu.sh $(if $(ALL),all,x86)
repo:
	@lab/packages/repo.sh
dkms:
	@lab/dkms/dkms.sh
guest:
	@lab/dkms/guest.sh
stock: base selftests
	@lab/check/stock.sh
mutants: base light debug selftests
	@$(if $(AUTO),lab/mutants/auto.py $(AUTO) $(SEED),lab/mutants/hand.sh)
kcsan: tree selftests
	@lab/build/kernel.sh kcsan
	@lab/check/kcsan.sh
nconfig-check: tree
	@lab/check/nconfig.sh
hooks-check: tree
	@lab/check/hooks.py
lint: base
	@lab/check/lint.sh

menuconfig: tree
	@lab/build/menuconfig.sh
help:
	@sed -n '/^\#/!q; s/^\# \{0,1\}//p' Makefile

clean:
	rm -rf $(BUILD)
