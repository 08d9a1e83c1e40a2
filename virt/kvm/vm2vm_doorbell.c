// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: doorbells, addresses at which a VM's write rings a bell (vm2vm_irq.c).
 *
 * They are what ioeventfds are (eventfd.c), and are on the same buses.  But all
 * doorbells of an address are one device, which finds the one that a write matches by
 * its size and value.  So 1000 queues that a value tells apart cost no more to find
 * than one.  Who serves a doorbell with interrupts off need not search the bus either.
 *
 * Doorbells are made and removed under the VM's slots_lock, and rung under its SRCU.
 */
#include <linux/eventfd.h>
#include <linux/hash.h>
#include <linux/kvm_host.h>
#include <linux/log2.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/unaligned.h>
#include <linux/xarray.h>
#include <kvm/iodev.h>
#include <uapi/linux/kvm_vm2vm.h>

#include "vm2vm.h"
#include "vm2vm_irq.h"
#include "vm2vm_trace.h"

#define VM2VM_DOORBELL_FLAGS						\
	(KVM_VM2VM_DOORBELL_DATAMATCH | KVM_VM2VM_DOORBELL_PIO |	\
	 KVM_VM2VM_DOORBELL_DEASSIGN | KVM_VM2VM_DOORBELL_ARRAY)

/**
 * struct vm2vm_doorbell - what one call has made; never changes
 * @datamatch: the value that rings, if KVM_VM2VM_DOORBELL_DATAMATCH is set
 * @len: bytes that a write has, or 0
 * @flags: KVM_VM2VM_DOORBELL_*
 * @nr: number of bells; one, unless KVM_VM2VM_DOORBELL_ARRAY is set
 * @bells: with a reference each
 */
struct vm2vm_doorbell {
	u64 datamatch;
	u32 len;
	u32 flags;
	u32 nr;
	struct vm2vm_bell *bells[] __counted_by(nr);
};

/**
 * struct vm2vm_address - the doorbells of one address
 * @dev: on a bus, with length 0, for writes of any length
 * @kvm: whose bus that is
 * @bus: which
 * @addr: where
 * @nr: number of doorbells
 * @nr_bells: and of what they ring, those of arrays one by one
 * @any: the only one, for writes of any length
 * @sizes: by half the length
 * @sizes.all: the only one of that length, for any value; or for its array's
 * @sizes.match: value -> struct vm2vm_doorbell
 */
struct vm2vm_address {
	struct kvm_io_device dev;
	struct kvm *kvm;
	enum kvm_bus bus;
	gpa_t addr;
	unsigned int nr;
	unsigned int nr_bells;
	struct vm2vm_doorbell __rcu *any;
	struct {
		struct vm2vm_doorbell __rcu *all;
		struct xarray match;
	} sizes[5];
};

#define vm2vm_protected(a, p)						\
	rcu_dereference_protected(p, lockdep_is_held(&(a)->kvm->slots_lock))

static struct vm2vm_address *to_address(struct kvm_io_device *dev)
{
	return container_of(dev, struct vm2vm_address, dev);
}

static u64 vm2vm_written(const void *val, int len)
{
	switch (len) {
	case 0:
		return 0;
	case 1:
		return *(u8 *)val;
	case 2:
		return get_unaligned((u16 *)val);
	case 4:
		return get_unaligned((u32 *)val);
	default:
		return get_unaligned((u64 *)val);
	}
}

/*
 * The bell that a write of @v rings, if there is one.  The VM's SRCU is held.  @len is
 * one that a doorbell can have.
 */
static __always_inline struct vm2vm_bell *vm2vm_match(struct vm2vm_address *a, int len,
						      u64 v)
{
	struct vm2vm_doorbell *d;

	d = srcu_dereference(a->any, &a->kvm->srcu);
	if (d)
		return d->bells[0];

	if (!len)
		return NULL;

	d = srcu_dereference(a->sizes[len / 2].all, &a->kvm->srcu);
	if (!d) {
		d = xa_load(&a->sizes[len / 2].match, v);
		return d ? d->bells[0] : NULL;
	}
	if (!(d->flags & KVM_VM2VM_DOORBELL_ARRAY))
		return d->bells[0];
	return v < d->nr ? d->bells[array_index_nospec(v, d->nr)] : NULL;
}

static int vm2vm_doorbell_write(struct kvm_vcpu *vcpu, struct kvm_io_device *dev,
				gpa_t addr, int len, const void *val)
{
	struct vm2vm_address *a = to_address(dev);
	struct vm2vm_bell *bell;
	enum vm2vm_ring how;

	if (addr != a->addr)
		return -EOPNOTSUPP;
	/* Any length rings what is for any. */
	if (len > 8 || !is_power_of_2(len))
		len = 0;
	bell = vm2vm_match(a, len, vm2vm_written(val, len));
	if (!bell)
		return -EOPNOTSUPP;
	how = vm2vm_ring(vcpu, bell);
	trace_kvm_vm2vm_ring(vcpu, addr, how, false);
	/* The next time it may be served with interrupts off. */
	vcpu->vm2vm.watched = true;
	return 0;
}

static void vm2vm_doorbell_free(struct vm2vm_doorbell *d)
{
	u32 i;

	if (!d)
		return;
	for (i = 0; i < d->nr; i++)
		vm2vm_bell_put(d->bells[i]);
	kfree(d);
}

/* Where to find an address without its bus; NULL if there is no need to. */
static struct xarray *vm2vm_addresses(struct kvm *kvm, enum kvm_bus bus)
{
	switch (bus) {
	case KVM_PIO_BUS:
		return &kvm->vm2vm.ports;
	case KVM_FAST_MMIO_BUS:
		return &kvm->vm2vm.gpas;
	default:
		return NULL;
	}
}

/*
 * Where an address is looked for first.  The first of those that have the same hash is
 * there, so that it is the VM's own doing if it has so many that this is of no use.
 */
static struct vm2vm_address __rcu **vm2vm_near(struct kvm *kvm, enum kvm_bus bus,
					       gpa_t addr)
{
	return &kvm->vm2vm.near[hash_64(addr + bus, KVM_VM2VM_NEAR_BITS)];
}

/* Put @a where its bus need not be searched, if such a place there is. */
static int vm2vm_address_publish(struct vm2vm_address *a)
{
	struct vm2vm_address __rcu **near = vm2vm_near(a->kvm, a->bus, a->addr);
	struct xarray *xa = vm2vm_addresses(a->kvm, a->bus);
	int r;

	if (!xa)
		return 0;
	r = xa_insert(xa, a->addr, a, GFP_KERNEL_ACCOUNT);
	if (!r && !rcu_access_pointer(*near))
		rcu_assign_pointer(*near, a);
	return r;
}

/* Return: whether it was there.  Who looks for it now may still find it. */
static bool vm2vm_address_hide(struct vm2vm_address *a)
{
	struct vm2vm_address __rcu **near = vm2vm_near(a->kvm, a->bus, a->addr);
	struct xarray *xa = vm2vm_addresses(a->kvm, a->bus);

	if (!xa || !xa_erase(xa, a->addr))
		return false;
	if (rcu_access_pointer(*near) == a)
		RCU_INIT_POINTER(*near, NULL);
	return true;
}

/* Nobody can find @a any more on its bus. */
static void vm2vm_address_free(struct vm2vm_address *a)
{
	struct vm2vm_doorbell *d;
	unsigned long val;
	int i;

	/* Here it is still found if it never was on its bus, or that was lost. */
	if (vm2vm_address_hide(a))
		synchronize_srcu_expedited(&a->kvm->srcu);

	a->kvm->vm2vm.nr_doorbells -= a->nr;
	a->kvm->vm2vm.nr_bells -= a->nr_bells;
	vm2vm_doorbell_free(rcu_dereference_protected(a->any, true));
	for (i = 0; i < ARRAY_SIZE(a->sizes); i++) {
		vm2vm_doorbell_free(rcu_dereference_protected(a->sizes[i].all, true));
		xa_for_each(&a->sizes[i].match, val, d)
			vm2vm_doorbell_free(d);
		xa_destroy(&a->sizes[i].match);
	}
	kfree(a);
}

static void vm2vm_doorbell_destructor(struct kvm_io_device *dev)
{
	vm2vm_address_free(to_address(dev));
}

static const struct kvm_io_device_ops vm2vm_doorbell_ops = {
	.write = vm2vm_doorbell_write,
	.destructor = vm2vm_doorbell_destructor,
};

/**
 * kvm_vm2vm_ring_irqoff - let a write ring a doorbell, with interrupts off, never with
 *			   PREEMPT_RT
 * @vcpu: who writes; it holds no SRCU
 * @bus: where: KVM_PIO_BUS, or KVM_FAST_MMIO_BUS
 * @addr: where on it
 * @len: how many bytes, at most 4; 0 if that is not known
 * @val: the lowest of it are what is written
 *
 * Return: whether that was all that the write was for.  If not, nothing was done.
 */
bool kvm_vm2vm_ring_irqoff(struct kvm_vcpu *vcpu, int bus, gpa_t addr, int len,
			   u64 val)
{
	struct kvm *kvm = vcpu->kvm;
	struct vm2vm_bell *bell = NULL;
	enum vm2vm_ring how;
	struct vm2vm_address *a;

	kvm_vcpu_srcu_read_lock(vcpu);
	a = srcu_dereference(*vm2vm_near(kvm, bus, addr), &kvm->srcu);
	if (!a || a->addr != addr || a->bus != bus)
		a = xa_load(vm2vm_addresses(kvm, bus), addr);
	if (a)
		bell = vm2vm_match(a, len, val & (BIT_ULL(8 * len) - 1));
	if (bell) {
		how = vm2vm_ring_irqoff(vcpu, bell);
		trace_kvm_vm2vm_ring(vcpu, addr, how, true);
	}
	kvm_vcpu_srcu_read_unlock(vcpu);
	return bell;
}
EXPORT_SYMBOL_GPL(kvm_vm2vm_ring_irqoff);

static struct vm2vm_address *vm2vm_find_address(struct kvm *kvm,
						enum kvm_bus bus_idx, gpa_t addr)
{
	struct kvm_io_bus *bus = kvm_get_bus(kvm, bus_idx);
	struct kvm_io_device *dev;
	int i;

	for (i = 0; bus && i < bus->dev_count; i++) {
		dev = bus->range[i].dev;
		if (bus->range[i].addr == addr && dev->ops == &vm2vm_doorbell_ops)
			return to_address(dev);
	}
	return NULL;
}

/* Whether there is a write that would ring both @d and another doorbell of @a. */
static bool vm2vm_collides(struct vm2vm_address *a, const struct vm2vm_doorbell *d)
{
	int size;

	if (rcu_access_pointer(a->any) || !d->len)
		return true;
	size = d->len / 2;
	if (rcu_access_pointer(a->sizes[size].all))
		return true;
	if (d->flags & KVM_VM2VM_DOORBELL_DATAMATCH)
		return xa_load(&a->sizes[size].match, d->datamatch);
	return !xa_empty(&a->sizes[size].match);
}

/* Whether one of the VM's doorbells would be rung by what signals an ioeventfd. */
bool kvm_vm2vm_doorbell_collides(struct kvm *kvm, int bus, gpa_t addr, int len,
				 bool wildcard, u64 datamatch)
{
	struct vm2vm_address *a;
	struct vm2vm_doorbell d = {
		.len = len,
		.datamatch = datamatch,
		.flags = wildcard ? 0 : KVM_VM2VM_DOORBELL_DATAMATCH,
	};

	lockdep_assert_held(&kvm->slots_lock);

	a = vm2vm_find_address(kvm, bus, addr);
	return a && vm2vm_collides(a, &d);
}

static int vm2vm_address_add(struct vm2vm_address *a, struct vm2vm_doorbell *d)
{
	int r = 0;

	if (!d->len)
		rcu_assign_pointer(a->any, d);
	else if (d->flags & KVM_VM2VM_DOORBELL_DATAMATCH)
		r = xa_insert(&a->sizes[d->len / 2].match, d->datamatch, d,
			      GFP_KERNEL_ACCOUNT);
	else
		rcu_assign_pointer(a->sizes[d->len / 2].all, d);
	if (!r) {
		a->nr++;
		a->nr_bells += d->nr;
		a->kvm->vm2vm.nr_doorbells++;
		a->kvm->vm2vm.nr_bells += d->nr;
	}
	return r;
}

/* Take @d out, of the address that it is at, without freeing it. */
static void vm2vm_address_del(struct vm2vm_address *a, struct vm2vm_doorbell *d)
{
	if (!d->len)
		RCU_INIT_POINTER(a->any, NULL);
	else if (d->flags & KVM_VM2VM_DOORBELL_DATAMATCH)
		xa_erase(&a->sizes[d->len / 2].match, d->datamatch);
	else
		RCU_INIT_POINTER(a->sizes[d->len / 2].all, NULL);
	a->nr--;
	a->nr_bells -= d->nr;
	a->kvm->vm2vm.nr_doorbells--;
	a->kvm->vm2vm.nr_bells -= d->nr;
}

/*
 * Whether @addr is a device's that KVM emulates, or that is coalesced: which of the two
 * comes first must not depend on who looks.
 */
static bool vm2vm_address_taken(struct kvm *kvm, enum kvm_bus bus_idx, gpa_t addr)
{
	struct kvm_io_bus *bus = kvm_get_bus(kvm, bus_idx);
	struct kvm_io_range *range;
	int i;

	/* The local APICs are on no bus, and come first. */
	if (bus_idx != KVM_PIO_BUS && kvm_arch_vm2vm_has_device(kvm, addr))
		return true;

	for (i = 0; bus && i < bus->dev_count; i++) {
		range = &bus->range[i];
		if (addr - range->addr < range->len && !kvm_is_ioeventfd(range->dev))
			return true;
	}
	return false;
}

/* The first doorbell at @addr: make the device that it is found by. */
static int vm2vm_address_create(struct kvm *kvm, enum kvm_bus bus, gpa_t addr,
				struct vm2vm_doorbell *d)
{
	struct vm2vm_address *a;
	int i, r;

	if (vm2vm_address_taken(kvm, bus, addr))
		return -EEXIST;

	a = kzalloc(sizeof(*a), GFP_KERNEL_ACCOUNT);
	if (!a)
		return -ENOMEM;
	a->kvm = kvm;
	a->bus = bus;
	a->addr = addr;
	for (i = 0; i < ARRAY_SIZE(a->sizes); i++)
		xa_init(&a->sizes[i].match);
	kvm_iodevice_init(&a->dev, &vm2vm_doorbell_ops);

	r = vm2vm_address_add(a, d);
	if (r)
		goto out;
	r = vm2vm_address_publish(a);
	if (!r)
		r = kvm_io_bus_register_dev(kvm, bus, addr, 0, &a->dev);
	if (r) {
		/* It may have been rung: vm2vm_address_free() waits. */
		vm2vm_address_del(a, d);
		goto out;
	}
	/* As an ioeventfd, it is not one of the few devices a bus may have. */
	kvm_get_bus(kvm, bus)->ioeventfd_count++;
	return 0;
out:
	vm2vm_address_free(a);
	return r;
}

/* Add @d, which is the VM's from then on, if there is no error. */
static int vm2vm_doorbell_add(struct kvm *kvm, enum kvm_bus bus, gpa_t addr,
			      struct vm2vm_doorbell *d)
{
	struct vm2vm_address *a;

	lockdep_assert_held(&kvm->slots_lock);

	if (kvm_ioeventfd_collides(kvm, bus, addr, d->len,
				   !(d->flags & KVM_VM2VM_DOORBELL_DATAMATCH),
				   d->datamatch))
		return -EEXIST;

	a = vm2vm_find_address(kvm, bus, addr);
	if (!a)
		return vm2vm_address_create(kvm, bus, addr, d);
	return vm2vm_collides(a, d) ? -EEXIST : vm2vm_address_add(a, d);
}

static bool vm2vm_doorbell_equal(const struct vm2vm_doorbell *a,
				 const struct vm2vm_doorbell *b)
{
	return a->flags == b->flags && a->datamatch == b->datamatch &&
	       a->len == b->len && a->nr == b->nr &&
	       !memcmp(a->bells, b->bells, a->nr * sizeof(a->bells[0]));
}

static struct vm2vm_doorbell *vm2vm_find_doorbell(struct vm2vm_address *a,
						  const struct vm2vm_doorbell *like)
{
	struct vm2vm_doorbell *d;

	if (!like->len)
		d = vm2vm_protected(a, a->any);
	else if (like->flags & KVM_VM2VM_DOORBELL_DATAMATCH)
		d = xa_load(&a->sizes[like->len / 2].match, like->datamatch);
	else
		d = vm2vm_protected(a, a->sizes[like->len / 2].all);
	return d && vm2vm_doorbell_equal(d, like) ? d : NULL;
}

/* Remove the doorbell that is as @like, after which nobody rings it. */
static int vm2vm_doorbell_del(struct kvm *kvm, enum kvm_bus bus_idx, gpa_t addr,
			      const struct vm2vm_doorbell *like)
{
	struct vm2vm_doorbell *d = NULL;
	struct vm2vm_address *a;
	struct kvm_io_bus *bus;

	lockdep_assert_held(&kvm->slots_lock);

	a = vm2vm_find_address(kvm, bus_idx, addr);
	if (a)
		d = vm2vm_find_doorbell(a, like);
	if (!d)
		return -ENOENT;

	if (a->nr > 1) {
		vm2vm_address_del(a, d);
		synchronize_srcu_expedited(&kvm->srcu);
		vm2vm_doorbell_free(d);
		return 0;
	}
	/* Frees both, after waiting for the SRCU. */
	vm2vm_address_hide(a);
	kvm_io_bus_unregister_dev(kvm, bus_idx, &a->dev);
	bus = kvm_get_bus(kvm, bus_idx);
	if (bus)
		bus->ioeventfd_count--;
	return 0;
}

static bool vm2vm_doorbell_valid(const struct kvm_vm2vm_doorbell *args)
{
	bool array = args->flags & KVM_VM2VM_DOORBELL_ARRAY;
	bool match = args->flags & KVM_VM2VM_DOORBELL_DATAMATCH;
	bool pio = args->flags & KVM_VM2VM_DOORBELL_PIO;

	if ((args->flags & ~VM2VM_DOORBELL_FLAGS) ||
	    memchr_inv(args->reserved, 0, sizeof(args->reserved)))
		return false;
	if (args->len > 8 || (args->len && !is_power_of_2(args->len)))
		return false;
	if (args->addr + args->len < args->addr)
		return false;
	if (pio && (args->len > 4 || args->addr > U16_MAX))
		return false;
	if (!args->len && (match || array))
		return false;
	if (match ? args->len < 8 && args->datamatch >> (8 * args->len) :
		    args->datamatch)
		return false;
	if (array)
		return !match && !args->fd && args->nr_fds &&
		       args->nr_fds <= KVM_VM2VM_MAX_ROUTES;
	return !args->fds && !args->nr_fds;
}

/* A doorbell as @args say, which is not at any address yet. */
static struct vm2vm_doorbell *
vm2vm_doorbell_alloc(const struct kvm_vm2vm_doorbell *args)
{
	bool array = args->flags & KVM_VM2VM_DOORBELL_ARRAY;
	u32 i, nr = array ? args->nr_fds : 1;
	struct vm2vm_doorbell *d;
	struct vm2vm_bell *bell;
	s32 *fds = NULL;

	if (array) {
		fds = memdup_array_user(u64_to_user_ptr(args->fds), nr, sizeof(*fds));
		if (IS_ERR(fds))
			return ERR_CAST(fds);
	}

	d = kzalloc(struct_size(d, bells, nr), GFP_KERNEL_ACCOUNT);
	if (!d) {
		kfree(fds);
		return ERR_PTR(-ENOMEM);
	}
	d->datamatch = args->datamatch;
	d->len = args->len;
	d->flags = args->flags & ~KVM_VM2VM_DOORBELL_DEASSIGN;

	for (i = 0; i < nr; i++) {
		bell = vm2vm_bell_get(array ? fds[i] : args->fd);
		if (IS_ERR(bell)) {
			vm2vm_doorbell_free(d);
			kfree(fds);
			return ERR_CAST(bell);
		}
		d->nr++;
		d->bells[i] = bell;
	}
	kfree(fds);
	return d;
}

static enum kvm_bus vm2vm_doorbell_bus(u32 flags)
{
	return flags & KVM_VM2VM_DOORBELL_PIO ? KVM_PIO_BUS : KVM_MMIO_BUS;
}

static int vm2vm_doorbell_assign(struct kvm *kvm,
				 const struct kvm_vm2vm_doorbell *args,
				 struct vm2vm_doorbell *d,
				 struct vm2vm_doorbell *fast)
{
	enum kvm_bus bus = vm2vm_doorbell_bus(args->flags);
	int r;

	lockdep_assert_held(&kvm->slots_lock);

	if (kvm->vm2vm.nr_doorbells + 1 + !!fast > KVM_VM2VM_MAX_DOORBELLS ||
	    kvm->vm2vm.nr_bells + d->nr + !!fast > KVM_VM2VM_MAX_BELLS)
		r = -ENOSPC;
	else
		r = vm2vm_doorbell_add(kvm, bus, args->addr, d);
	if (r) {
		vm2vm_doorbell_free(d);
		vm2vm_doorbell_free(fast);
		return r;
	}
	/*
	 * As an ioeventfd, it is also where VMX looks before it decodes.  Without that
	 * it is slower, and complete; to take it back for lack of memory could lose the
	 * bus, for which kvm_io_bus_unregister_dev() needs some.
	 */
	if (fast && vm2vm_doorbell_add(kvm, KVM_FAST_MMIO_BUS, args->addr, fast))
		vm2vm_doorbell_free(fast);
	return 0;
}

static int vm2vm_doorbell_deassign(struct kvm *kvm,
				   const struct kvm_vm2vm_doorbell *args,
				   struct vm2vm_doorbell *d)
{
	enum kvm_bus bus = vm2vm_doorbell_bus(args->flags);
	int r;

	lockdep_assert_held(&kvm->slots_lock);

	r = vm2vm_doorbell_del(kvm, bus, args->addr, d);
	if (!r && !args->len && bus == KVM_MMIO_BUS)
		vm2vm_doorbell_del(kvm, KVM_FAST_MMIO_BUS, args->addr, d);
	vm2vm_doorbell_free(d);
	return r;
}

int vm2vm_doorbell(struct kvm *kvm, const struct kvm_vm2vm_doorbell *args)
{
	struct vm2vm_doorbell *d, *fast = NULL;
	bool deassign;
	int r;

	if (!vm2vm_doorbell_valid(args))
		return -EINVAL;
	deassign = args->flags & KVM_VM2VM_DOORBELL_DEASSIGN;

	d = vm2vm_doorbell_alloc(args);
	if (IS_ERR(d))
		return PTR_ERR(d);
	if (!deassign && !args->len && !(args->flags & KVM_VM2VM_DOORBELL_PIO)) {
		fast = vm2vm_doorbell_alloc(args);
		if (IS_ERR(fast)) {
			vm2vm_doorbell_free(d);
			return PTR_ERR(fast);
		}
	}

	mutex_lock(&kvm->slots_lock);
	if (deassign)
		r = vm2vm_doorbell_deassign(kvm, args, d);
	else
		r = vm2vm_doorbell_assign(kvm, args, d, fast);
	mutex_unlock(&kvm->slots_lock);

	if (!r)
		trace_kvm_vm2vm_doorbell(kvm, args);
	return r;
}
