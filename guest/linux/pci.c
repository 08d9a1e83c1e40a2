// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: QEMU's vm2vm-pci, by which a guest serves another VM's device
 */
#include <linux/err.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pm.h>

#include "driver.h"

static void changed(struct vm2vm *vm)
{
	atomic64_inc(&vm->changes);
	wake_up_all(&vm->wait);
}

static irqreturn_t state_handler(int irq, void *data)
{
	changed(data);
	return IRQ_HANDLED;
}

/* Is it what it says it is, as far as we go by that? */
static int check_device(struct vm2vm *vm)
{
	u32 magic = ioread32(vm->registers + VM2VM_PCI_MAGIC);
	u32 version = ioread32(vm->registers + VM2VM_PCI_VERSION);
	u32 doorbells = ioread32(vm->registers + VM2VM_PCI_DOORBELL_OFFSET);

	if (magic != VM2VM_PCI_MAGIC_VALUE || version < VM2VM_PCI_VERSION_VALUE) {
		pci_err(vm->pdev, "not a device for this driver: magic %#x, version %u\n",
			magic, version);
		return -ENODEV;
	}
	if (doorbells % 4 || doorbells > VM2VM_PCI_REGISTERS_BAR_SIZE - 4) {
		pci_err(vm->pdev, "its doorbells are said to be at %#x\n", doorbells);
		return -ENODEV;
	}
	vm->doorbells = vm->registers + doorbells;
	return 0;
}

static int check_bar(struct vm2vm *vm, int bar, u64 size)
{
	struct pci_dev *pdev = vm->pdev;

	if (pci_resource_flags(pdev, bar) & IORESOURCE_MEM && pci_resource_len(pdev, bar) >= size &&
	    IS_ALIGNED(pci_resource_start(pdev, bar) | pci_resource_len(pdev, bar), PAGE_SIZE))
		return 0;
	pci_err(pdev, "BAR %d has %#llx bytes, not %#llx\n", bar,
		(u64)pci_resource_len(pdev, bar), size);
	return -ENODEV;
}

static int check_bars(struct vm2vm *vm)
{
	u64 low = ioread32(vm->registers + VM2VM_PCI_SIZE);
	u64 high = ioread32(vm->registers + VM2VM_PCI_SIZE + 4);
	int ret;

	ret = check_bar(vm, VM2VM_PCI_WINDOW_BAR, high << 32 | low);
	return ret ?: check_bar(vm, VM2VM_PCI_INFLIGHT_BAR, VM2VM_PCI_INFLIGHT_BAR_SIZE);
}

static int get_vectors(struct vm2vm *vm)
{
	int n, ret;
	unsigned int i;

	n = pci_alloc_irq_vectors(vm->pdev, VM2VM_PCI_VECTOR_QUEUE(1), VM2VM_PCI_NR_VECTORS,
				  PCI_IRQ_MSIX);
	if (n < 0)
		return n;
	vm->nr_queues = n - VM2VM_PCI_VECTOR_QUEUE(0);
	for (i = 0; i < vm->nr_queues; i++)
		snprintf(vm->queues[i].name, sizeof(vm->queues[i].name), "vm2vm:%s-%u",
			 pci_name(vm->pdev), i);
	ret = request_irq(pci_irq_vector(vm->pdev, VM2VM_PCI_VECTOR_STATE), state_handler, 0,
			  "vm2vm", vm);
	if (ret)
		pci_free_irq_vectors(vm->pdev);
	return ret;
}

static void put_vectors(struct vm2vm *vm)
{
	free_irq(pci_irq_vector(vm->pdev, VM2VM_PCI_VECTOR_STATE), vm);
	pci_free_irq_vectors(vm->pdev);
}

static int enable(struct vm2vm *vm)
{
	struct pci_dev *pdev = vm->pdev;
	int ret;

	ret = pci_enable_device(pdev);
	if (ret)
		return ret;
	ret = pci_request_regions(pdev, "vm2vm");
	if (ret)
		goto disable;
	ret = check_bar(vm, VM2VM_PCI_REGISTERS_BAR, VM2VM_PCI_REGISTERS_BAR_SIZE);
	if (ret)
		goto release;
	ret = -ENOMEM;
	vm->registers = pci_iomap(pdev, VM2VM_PCI_REGISTERS_BAR, VM2VM_PCI_REGISTERS_BAR_SIZE);
	if (!vm->registers)
		goto release;
	ret = check_device(vm) ?: check_bars(vm);
	if (ret)
		goto unmap;
	/* Interrupts are writes of the device's.  Without it QEMU takes nobody for registered. */
	pci_set_master(pdev);
	return 0;

unmap:
	pci_iounmap(pdev, vm->registers);
release:
	pci_release_regions(pdev);
disable:
	pci_disable_device(pdev);
	return ret;
}

static void disable(struct vm2vm *vm)
{
	pci_clear_master(vm->pdev);
	pci_iounmap(vm->pdev, vm->registers);
	pci_release_regions(vm->pdev);
	pci_disable_device(vm->pdev);
}

static int vm2vm_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct vm2vm *vm = vm2vm_node_alloc(pdev);
	int ret;

	if (IS_ERR(vm))
		return PTR_ERR(vm);
	ret = enable(vm);
	if (ret)
		goto put;
	ret = get_vectors(vm);
	if (ret)
		goto disable;
	pci_set_drvdata(pdev, vm);
	ret = vm2vm_node_add(vm);
	if (ret)
		goto vectors;
	return 0;

vectors:
	put_vectors(vm);
disable:
	disable(vm);
put:
	put_device(&vm->dev);
	return ret;
}

static void vm2vm_remove(struct pci_dev *pdev)
{
	struct vm2vm *vm = pci_get_drvdata(pdev);

	/* Whoever serves, serves no more: QEMU hides what it shows */
	iowrite32(0, vm->registers + VM2VM_PCI_CONTROL);
	vm2vm_node_remove(vm);
	put_vectors(vm);
	disable(vm);
	put_device(&vm->dev);
}

/* While the guest slept the device was reset, which a program has to be told. */
static int vm2vm_resume(struct device *dev)
{
	changed(dev_get_drvdata(dev));
	return 0;
}

static DEFINE_SIMPLE_DEV_PM_OPS(vm2vm_pm, NULL, vm2vm_resume);

static const struct pci_device_id vm2vm_ids[] = {
	{ PCI_DEVICE(VM2VM_PCI_VENDOR_ID, VM2VM_PCI_DEVICE_ID) },
	{}
};
MODULE_DEVICE_TABLE(pci, vm2vm_ids);

static struct pci_driver vm2vm_driver = {
	.name = "vm2vm",
	.id_table = vm2vm_ids,
	.probe = vm2vm_probe,
	.remove = vm2vm_remove,
	.driver.pm = pm_sleep_ptr(&vm2vm_pm),
};

static int __init vm2vm_init(void)
{
	int ret = vm2vm_nodes_init();

	if (ret)
		return ret;
	ret = pci_register_driver(&vm2vm_driver);
	if (ret)
		vm2vm_nodes_exit();
	return ret;
}

static void __exit vm2vm_exit(void)
{
	pci_unregister_driver(&vm2vm_driver);
	vm2vm_nodes_exit();
}

module_init(vm2vm_init);
module_exit(vm2vm_exit);
MODULE_DESCRIPTION("Serve another VM's device by QEMU's vm2vm-pci");
MODULE_LICENSE("GPL");
