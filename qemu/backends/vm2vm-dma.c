/*
 * vm2vm: a domain follows the DMA address space of a device
 *
 * As VFIO's container does: what is RAM in the address space is approved, and
 * behind a vIOMMU what that maps.  UNMAP is synchronous in KVM, so the vIOMMU's
 * answer to its guest comes after the revocation.
 *
 * All of it runs under the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "system/vm2vm.h"
#include "vm2vm-dma.h"
#include "trace.h"

/* KVM's page: what it maps is a multiple of this */
#define PAGE 4096
/* The end of a mapping is below 2^64 */
#define LAST (UINT64_MAX - PAGE)

static QLIST_HEAD(, Vm2vmDma) active = QLIST_HEAD_INITIALIZER(active);

typedef struct Vm2vmIommu {
    Vm2vmDma *dma;
    IOMMUMemoryRegion *mr;
    hwaddr offset;              /* of the region in the address space */
    hwaddr first, last;         /* what is seen of the region */
    IOMMUNotifier n;
    QLIST_ENTRY(Vm2vmIommu) next;
} Vm2vmIommu;

/*
 * Memory that stays approved although it must not would be worse than a VM that
 * ends; KVM fails only if the host has no memory for the call.
 */
static void G_NORETURN cannot_revoke(Vm2vmDma *dma, uint64_t iova, int err)
{
    error_report("%s '%s': cannot revoke the memory at bus address 0x%" PRIx64
                 ": %s", dma->what, dma->id, iova, strerror(-err));
    abort();
}

static void dma_map(Vm2vmDma *dma, uint64_t iova, uint64_t gpa, uint64_t size,
                    bool writable);

static uint64_t unmap_whole(Vm2vmDma *dma, uint64_t iova, uint64_t last)
{
    uint64_t unmapped;
    int ret;

    ret = kvm_vm2vm_unmap(dma->domain, iova, last - iova + 1, &unmapped);
    if (ret && ret != -EINVAL) {
        cannot_revoke(dma, iova, ret);
    }
    if (ret) {
        return UINT64_MAX;
    }
    dma->bytes -= unmapped;
    return unmapped;
}

/*
 * Remove a mapping that covers @iova and also has something beyond the range
 * @first to @last, and make what is beyond anew.
 */
static void unmap_around(Vm2vmDma *dma, uint64_t iova, uint64_t first,
                         uint64_t last)
{
    uint64_t at = iova, gpa, size, end;
    bool writable;

    if (kvm_vm2vm_query(dma->domain, &at, &gpa, &size, &writable) ||
        at > iova) {
        return;
    }
    end = at + size - 1;
    if (at >= first && end <= last) {
        return;
    }
    /* QUERY's gpa is that at @iova */
    gpa -= iova - at;
    if (unmap_whole(dma, at, end) == UINT64_MAX) {
        cannot_revoke(dma, at, -EINVAL);
    }
    if (at < first) {
        dma_map(dma, at, gpa, first - at, writable);
    }
    if (end > last) {
        dma_map(dma, last + 1, gpa + (last + 1 - at), end - last, writable);
    }
}

static void dma_unmap(Vm2vmDma *dma, uint64_t iova, uint64_t last)
{
    uint64_t unmapped;

    /* A virtio-iommu lets its guest map bytes, of which nothing is approved */
    iova &= -PAGE;
    last = MIN(last | (PAGE - 1), LAST);
    if (iova > last || dma->ended) {
        return;
    }
    unmapped = unmap_whole(dma, iova, last);
    if (unmapped == UINT64_MAX) {
        /* It cuts mappings in two, at its start, its end, or both */
        unmap_around(dma, iova, iova, last);
        unmap_around(dma, last & -PAGE, iova, last);
        unmapped = unmap_whole(dma, iova, last);
        if (unmapped == UINT64_MAX) {
            cannot_revoke(dma, iova, -EINVAL);
        }
    }
    trace_vm2vm_dma_unmap(dma->id, iova, last, unmapped);
}

static void dma_map(Vm2vmDma *dma, uint64_t iova, uint64_t gpa, uint64_t size,
                    bool writable)
{
    int ret = kvm_vm2vm_map(dma->domain, iova, gpa, size, writable);

    /* A vIOMMU may tell twice, or put one mapping in the place of another */
    if (ret == -EEXIST) {
        uint64_t at = iova, old_gpa, old_size;
        bool old_writable;

        if (!kvm_vm2vm_query(dma->domain, &at, &old_gpa, &old_size,
                             &old_writable) &&
            at == iova && old_gpa == gpa && old_size == size &&
            old_writable == writable) {
            return;
        }
        dma_unmap(dma, iova, iova + size - 1);
        ret = kvm_vm2vm_map(dma->domain, iova, gpa, size, writable);
    }
    trace_vm2vm_dma_map(dma->id, iova, gpa, size, writable, ret);
    if (!ret) {
        dma->bytes += size;
        return;
    }
    dma->failures++;
    /* Not memory: a device's interrupt address, for instance */
    if (ret != -ENOENT) {
        warn_report("%s '%s': the backend does not see bus address 0x%" PRIx64
                    ", 0x%" PRIx64 " bytes: %s", dma->what, dma->id, iova, size,
                    strerror(-ret));
    }
}

/*
 * An intel-iommu with interrupt remapping is seen in two parts, and tells what
 * lies across the gap at once. QEMU has no such notifiers: so each is told of
 * all, and takes its part.
 */
static bool iommu_part(Vm2vmIommu *iommu, const IOMMUTLBEntry *entry,
                       hwaddr *iova, hwaddr *gpa, hwaddr *last)
{
    hwaddr first = MAX(entry->iova, iommu->first);

    *last = MIN(entry->iova + entry->addr_mask, iommu->last) + iommu->offset;
    *iova = first + iommu->offset;
    *gpa = entry->translated_addr + (first - entry->iova);
    return first <= entry->iova + entry->addr_mask && first <= iommu->last;
}

static void iommu_notify(IOMMUNotifier *n, IOMMUTLBEntry *entry)
{
    Vm2vmIommu *iommu = container_of(n, Vm2vmIommu, n);
    hwaddr iova, gpa, last;

    if (!iommu_part(iommu, entry, &iova, &gpa, &last)) {
        return;
    }
    if ((entry->perm & IOMMU_RW) == IOMMU_NONE) {
        dma_unmap(iommu->dma, iova, last);
        return;
    }
    /* What is to be written only must be readable too: KVM has no such pages */
    if (entry->target_as == &address_space_memory && last <= LAST) {
        dma_map(iommu->dma, iova, gpa, last - iova + 1,
                entry->perm & IOMMU_WO);
    }
}

static bool section_range(const MemoryRegionSection *section, uint64_t *first,
                          uint64_t *last)
{
    uint64_t start = section->offset_within_address_space;
    Int128 end = int128_add(int128_make64(start), section->size);

    *first = ROUND_UP(start, PAGE);
    end = int128_min(end, int128_add(int128_make64(LAST), int128_one()));
    *last = (int128_get64(end) & -PAGE) - 1;
    return *first >= start && *first < *last;
}

static void iommu_add(Vm2vmDma *dma, MemoryRegionSection *section)
{
    IOMMUMemoryRegion *mr = IOMMU_MEMORY_REGION(section->mr);
    Vm2vmIommu *iommu = g_new0(Vm2vmIommu, 1);
    Error *err = NULL;

    iommu->dma = dma;
    iommu->mr = mr;
    iommu->offset = section->offset_within_address_space -
        section->offset_within_region;
    iommu->first = section->offset_within_region;
    iommu->last = int128_get64(int128_sub(int128_add(
        int128_make64(iommu->first), section->size), int128_one()));
    iommu_notifier_init(&iommu->n, iommu_notify, IOMMU_NOTIFIER_IOTLB_EVENTS,
                        0, HWADDR_MAX,
                        memory_region_iommu_attrs_to_index(mr,
                                                    MEMTXATTRS_UNSPECIFIED));
    if (memory_region_register_iommu_notifier(section->mr, &iommu->n, &err)) {
        g_free(iommu);
        error_reportf_err(err, "%s '%s': the backend sees nothing: ", dma->what,
                          dma->id);
        return;
    }
    memory_region_ref(section->mr);
    QLIST_INSERT_HEAD(&dma->iommus, iommu, next);
    memory_region_iommu_replay(mr, &iommu->n);
}

static void iommu_del(Vm2vmDma *dma, MemoryRegionSection *section)
{
    Vm2vmIommu *iommu;

    QLIST_FOREACH(iommu, &dma->iommus, next) {
        if (MEMORY_REGION(iommu->mr) == section->mr &&
            iommu->first == section->offset_within_region) {
            memory_region_unregister_iommu_notifier(section->mr, &iommu->n);
            QLIST_REMOVE(iommu, next);
            memory_region_unref(section->mr);
            g_free(iommu);
            return;
        }
    }
}

/*
 * A domain is of guest-physical addresses. RAM that a device sees without an
 * IOMMU is where the CPU sees it, on every machine that has KVM with vm2vm.
 */
static bool is_identity(const MemoryRegionSection *section, uint64_t iova)
{
    MemoryRegionSection found;
    bool same;

    found = memory_region_find(get_system_memory(), iova, PAGE);
    if (!found.mr) {
        return false;
    }
    same = found.mr == section->mr &&
        found.offset_within_region == section->offset_within_region +
        (iova - section->offset_within_address_space);
    memory_region_unref(found.mr);
    return same;
}

/*
 * All of the VM's memory: the device has no IOMMU, or one that lets it pass.
 * That may be how its guest begins, or what somebody forgot.
 */
static bool may_bypass(Vm2vmDma *dma)
{
    if (!dma->bypassed && !dma->bypass) {
        warn_report("%s '%s': the device bypasses the IOMMU, or has none: the "
                    "backend sees nothing of it. Use an IOMMU, and "
                    "iommu_platform=on; or say that it may see all memory "
                    "(%s=on)", dma->what, dma->id, dma->property);
    }
    dma->bypassed = true;
    return dma->bypass;
}

static void section_add(Vm2vmDma *dma, MemoryRegionSection *section)
{
    uint64_t first, last;

    if (memory_region_is_iommu(section->mr)) {
        iommu_add(dma, section);
        return;
    }
    /* Of virtio-mem nobody tells us which parts are plugged */
    if (memory_region_has_ram_discard_manager(section->mr)) {
        warn_report("%s '%s': the backend does not see the memory of "
                    "virtio-mem: it needs an IOMMU for that", dma->what,
                    dma->id);
        dma->failures++;
        return;
    }
    if (!memory_region_is_ram(section->mr) ||
        memory_region_is_ram_device(section->mr) ||
        memory_region_is_protected(section->mr) ||
        !section_range(section, &first, &last)) {
        return;
    }
    if (!may_bypass(dma)) {
        return;
    }
    if (!is_identity(section, first)) {
        dma->failures++;
        return;
    }
    dma_map(dma, first, first, last - first + 1, !section->readonly);
}

/* New memory is a memslot of KVM's only once its own listener has committed */
static void region_add(MemoryListener *listener, MemoryRegionSection *section)
{
    Vm2vmDma *dma = container_of(listener, Vm2vmDma, listener);

    g_ptr_array_add(dma->added, memory_region_section_new_copy(section));
}

static void commit(MemoryListener *listener)
{
    Vm2vmDma *dma = container_of(listener, Vm2vmDma, listener);
    guint i;

    for (i = 0; i < dma->added->len; i++) {
        section_add(dma, g_ptr_array_index(dma->added, i));
    }
    g_ptr_array_set_size(dma->added, 0);
}

static void region_del(MemoryListener *listener, MemoryRegionSection *section)
{
    Vm2vmDma *dma = container_of(listener, Vm2vmDma, listener);
    uint64_t first, last;

    if (memory_region_is_iommu(section->mr)) {
        iommu_del(dma, section);
    } else if (!memory_region_is_ram(section->mr)) {
        return;
    }
    if (section_range(section, &first, &last)) {
        dma_unmap(dma, first, last);
    }
}

void vm2vm_dma_start(Vm2vmDma *dma, const char *what, const char *id,
                     int domain, AddressSpace *as, const char *property,
                     bool bypass)
{
    assert(!dma->as);
    dma->what = what;
    dma->id = id;
    dma->domain = domain;
    dma->as = as;
    dma->property = property;
    dma->bypass = bypass;
    dma->bypassed = dma->ended = false;
    dma->bytes = 0;
    QLIST_INSERT_HEAD(&active, dma, next);
    QLIST_INIT(&dma->iommus);
    dma->added = g_ptr_array_new_with_free_func(
        (GDestroyNotify)memory_region_section_free_copy);
    dma->listener = (MemoryListener) {
        .name = "vm2vm",
        .region_add = region_add,
        .region_del = region_del,
        .commit = commit,
        /* After KVM's own */
        .priority = MEMORY_LISTENER_PRIORITY_ACCEL + 1,
    };
    memory_listener_register(&dma->listener, as);
}

void vm2vm_dma_stop(Vm2vmDma *dma)
{
    int ret;

    if (!dma->as) {
        return;
    }
    /* Of all of it at once, and for good */
    ret = kvm_vm2vm_end(dma->domain);
    if (ret) {
        cannot_revoke(dma, 0, ret);
    }
    dma->ended = true;
    dma->bytes = 0;
    QLIST_REMOVE(dma, next);
    memory_listener_unregister(&dma->listener);
    g_ptr_array_free(dma->added, true);
    dma->as = NULL;
}

/* Append a range, or make the last one longer */
static void range_append(Vm2vmRangeList ***tail, Vm2vmRange **end,
                         uint64_t iova, uint64_t gpa, uint64_t size,
                         bool writable)
{
    Vm2vmRange *r = *end;

    if (r && r->iova + r->size == iova && r->gpa + r->size == gpa &&
        r->writable == writable) {
        r->size += size;
        return;
    }
    r = g_new0(Vm2vmRange, 1);
    r->iova = iova;
    r->gpa = gpa;
    r->size = size;
    r->writable = writable;
    QAPI_LIST_APPEND(*tail, r);
    *end = r;
}

Vm2vmDma *vm2vm_dma_next(Vm2vmDma *dma, const char *what)
{
    dma = dma ? QLIST_NEXT(dma, next) : QLIST_FIRST(&active);
    while (dma && strcmp(dma->what, what)) {
        dma = QLIST_NEXT(dma, next);
    }
    return dma;
}

Vm2vmRangeList *vm2vm_dma_approved(Vm2vmDma *dma)
{
    Vm2vmRangeList *list = NULL, **tail = &list;
    Vm2vmRange *end = NULL;
    uint64_t iova = 0, gpa, size;
    bool writable;

    while (iova <= LAST &&
           !kvm_vm2vm_query(dma->domain, &iova, &gpa, &size, &writable)) {
        range_append(&tail, &end, iova, gpa, size, writable);
        iova += size;
    }
    return list;
}

typedef struct Lister {
    IOMMUNotifier n;
    Vm2vmIommu *iommu;
    GArray *ranges;
} Lister;

static void list_notify(IOMMUNotifier *n, IOMMUTLBEntry *entry)
{
    Lister *lister = container_of(n, Lister, n);
    Vm2vmRange r = { .writable = entry->perm & IOMMU_WO };
    hwaddr iova, gpa, last;

    if ((entry->perm & IOMMU_RW) &&
        iommu_part(lister->iommu, entry, &iova, &gpa, &last)) {
        r.iova = iova;
        r.gpa = gpa;
        r.size = last - iova + 1;
        g_array_append_val(lister->ranges, r);
    }
}

static gint by_iova(gconstpointer a, gconstpointer b)
{
    const Vm2vmRange *x = a, *y = b;

    return x->iova < y->iova ? -1 : x->iova > y->iova;
}

/*
 * A vIOMMU tells what it maps to whoever starts to listen: some of them to all
 * who do, which is nothing new to these.
 */
Vm2vmRangeList *vm2vm_dma_translated(Vm2vmDma *dma)
{
    Lister lister = { .ranges = g_array_new(false, false, sizeof(Vm2vmRange)) };
    Vm2vmRangeList *list = NULL, **tail = &list;
    Vm2vmRange *end = NULL;
    Vm2vmIommu *iommu;
    guint i;

    QLIST_FOREACH(iommu, &dma->iommus, next) {
        lister.iommu = iommu;
        iommu_notifier_init(&lister.n, list_notify, IOMMU_NOTIFIER_IOTLB_EVENTS,
                            iommu->n.start, iommu->n.end, iommu->n.iommu_idx);
        if (!memory_region_register_iommu_notifier(MEMORY_REGION(iommu->mr),
                                                   &lister.n, NULL)) {
            memory_region_iommu_replay(iommu->mr, &lister.n);
            memory_region_unregister_iommu_notifier(MEMORY_REGION(iommu->mr),
                                                    &lister.n);
        }
    }
    g_array_sort(lister.ranges, by_iova);
    for (i = 0; i < lister.ranges->len; i++) {
        Vm2vmRange *r = &g_array_index(lister.ranges, Vm2vmRange, i);

        range_append(&tail, &end, r->iova, r->gpa, r->size, r->writable);
    }
    g_array_free(lister.ranges, true);
    return list;
}
