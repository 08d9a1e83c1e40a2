/*
 * vm2vm: where there is no virtio or no PCI there are no links
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/hmp.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-vm2vm.h"

Vm2vmLinkInfoList *qmp_query_vm2vm_links(Error **errp)
{
    return NULL;
}

Vm2vmMappings *qmp_x_query_vm2vm_mappings(const char *id, Error **errp)
{
    error_setg(errp, "there is no vm2vm-link '%s'", id);
    return NULL;
}

void hmp_info_vm2vm(Monitor *mon, const QDict *qdict)
{
}
