/*
 * vm2vm: what QMP tells of links
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-vm2vm.h"
#include "vm2vm-link.h"

static void fill_dma(Vm2vmOwnerInfo *info, Vm2vmDma *dma)
{
    info->approving = dma->as;
    info->bytes = dma->bytes;
    info->not_mapped = dma->failures;
    info->bypassed = dma->bypassed;
}

static Vm2vmOwnerInfo *owner_info(Vm2vmLink *link)
{
    Vm2vmOwnerInfo *info = g_new0(Vm2vmOwnerInfo, 1);

    info->device = g_strdup(link->device_id);
    fill_dma(info, &link->owner.dma);
    return info;
}

/* A device with a back-end that is another VM */
static Vm2vmLinkInfo *device_info(Vm2vmDma *dma)
{
    Vm2vmLinkInfo *info = g_new0(Vm2vmLinkInfo, 1);

    info->id = g_strdup(dma->id);
    info->role = VM2VM_ROLE_OWNER;
    info->connected = true;
    info->peers = 1;
    info->owner = g_new0(Vm2vmOwnerInfo, 1);
    info->owner->device = g_strdup(dma->id);
    fill_dma(info->owner, dma);
    return info;
}

static Vm2vmBackendInfo *backend_info(Vm2vmLink *link)
{
    Vm2vmBackendInfo *info = g_new0(Vm2vmBackendInfo, 1);

    info->device = g_strdup(link->backend.device_id);
    info->base = link->base;
    info->size = link->size;
    info->shown = link->backend.shown;
    info->refused_reads = link->backend.refused[0];
    info->refused_writes = link->backend.refused[1];
    info->slow_doorbells = link->backend.slow_doorbells;
    info->registered = link->backend.registered;
    info->epoch = link->backend.epoch;
    info->acknowledged = link->backend.ack;
    info->domain = link->backend.domain >= 0;
    return info;
}

Vm2vmLinkInfoList *qmp_query_vm2vm_links(Error **errp)
{
    Vm2vmLinkInfoList *list = NULL, **tail = &list;
    Vm2vmLink *link = NULL;
    Vm2vmDma *dma = NULL;

    while ((link = vm2vm_link_next(link))) {
        Vm2vmLinkInfo *info = g_new0(Vm2vmLinkInfo, 1);

        info->id = g_strdup(link->id);
        info->role = link->role;
        info->connected = link->ready;
        info->peers = link->peers;
        info->dropped = link->dropped;
        if (link->role == VM2VM_ROLE_OWNER) {
            info->owner = owner_info(link);
        } else {
            info->backend = backend_info(link);
            info->queues = vm2vm_backend_queues(link);
        }
        QAPI_LIST_APPEND(tail, info);
    }
    while ((dma = vm2vm_dma_next(dma, "vhost-user"))) {
        QAPI_LIST_APPEND(tail, device_info(dma));
    }
    return list;
}

static Vm2vmDma *find_dma(const char *id)
{
    Vm2vmLink *link = NULL;
    Vm2vmDma *dma = NULL;

    while ((link = vm2vm_link_next(link))) {
        if (link->role == VM2VM_ROLE_OWNER && !strcmp(link->id, id)) {
            return &link->owner.dma;
        }
    }
    while ((dma = vm2vm_dma_next(dma, "vhost-user"))) {
        if (!strcmp(dma->id, id)) {
            return dma;
        }
    }
    return NULL;
}

Vm2vmMappings *qmp_x_query_vm2vm_mappings(const char *id, Error **errp)
{
    Vm2vmDma *dma = find_dma(id);
    Vm2vmMappings *m;

    if (!dma) {
        error_setg(errp, "there is no vm2vm-link '%s' of role 'owner'", id);
        return NULL;
    }
    m = g_new0(Vm2vmMappings, 1);
    if (dma->as) {
        m->approved = vm2vm_dma_approved(dma);
        m->translated = vm2vm_dma_translated(dma);
    }
    return m;
}
