/*
 * vm2vm: "info vm2vm"
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/qapi-commands-vm2vm.h"

static void show_owner(Monitor *mon, Vm2vmOwnerInfo *o)
{
    monitor_printf(mon, "  device: %s, %s\n", o->device,
                   o->approving ? "approving" : "not approving");
    monitor_printf(mon, "  approved: %" PRIu64 " bytes; not mapped: %" PRIu64
                   "%s\n", o->bytes, o->not_mapped,
                   o->bypassed ? "; bypasses the IOMMU" : "");
}

static void show_backend(Monitor *mon, Vm2vmBackendInfo *b)
{
    monitor_printf(mon, "  device: %s\n", b->device ?: "none");
    monitor_printf(mon, "  window: 0x%" PRIx64 " bytes at bus address 0x%"
                   PRIx64 ", shown: 0x%" PRIx64 "\n", b->size, b->base,
                   b->shown);
    monitor_printf(mon, "  %s, epoch: %" PRIu32 ", acknowledged: %" PRIu32
                   "%s\n", b->registered ? "registered" : "not registered",
                   b->epoch, b->acknowledged, b->domain ? ", domain" : "");
    monitor_printf(mon, "  refused: %" PRIu64 " reads, %" PRIu64 " writes; "
                   "slow doorbells: %" PRIu64 "\n", b->refused_reads,
                   b->refused_writes, b->slow_doorbells);
}

void hmp_info_vm2vm(Monitor *mon, const QDict *qdict)
{
    Vm2vmLinkInfoList *list = qmp_query_vm2vm_links(NULL), *l;

    for (l = list; l; l = l->next) {
        Vm2vmLinkInfo *info = l->value;
        Vm2vmQueueInfoList *q;

        monitor_printf(mon, "%s: %s, %s; peers: %" PRIu32 ", dropped: %" PRIu32
                       "\n", info->id, Vm2vmRole_str(info->role),
                       info->connected ? "connected" : "not connected",
                       info->peers, info->dropped);
        if (info->owner) {
            show_owner(mon, info->owner);
        }
        if (info->backend) {
            show_backend(mon, info->backend);
        }
        for (q = info->queues; q; q = q->next) {
            monitor_printf(mon, "  queue %" PRIu32 ": %" PRIu32 " descriptors "
                           "at 0x%" PRIx64 ", available at 0x%" PRIx64
                           ", used at 0x%" PRIx64 "%s%s\n", q->value->index,
                           q->value->size, q->value->desc, q->value->avail,
                           q->value->used, q->value->kick ? ", kick" : "",
                           q->value->call ? ", call" : "");
        }
    }
    qapi_free_Vm2vmLinkInfoList(list);
}
