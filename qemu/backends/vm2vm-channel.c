/*
 * vm2vm: the configuration space of a backend's device, both ways
 *
 * The peer reads what the guest has registered, and writes to it. If the guest
 * changes it, the peer is told by a channel that it has passed: no more than
 * that ever goes there.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qemu/vm2vm-fd.h"
#include "vm2vm-link.h"

#define RETRY_MS 20

/* To say it once more is the same, so one is kept if the socket is full */
static void say_changed(void *opaque)
{
    Vm2vmLink *link = opaque;
    Vm2vmBackend *b = &link->backend;
    Vm2vmHeader hdr = {
        .request = VM2VM_BACKEND_CONFIG_CHANGE_MSG,
        .flags = VM2VM_FLAGS_VERSION,
    };
    ssize_t len;

    if (b->channel < 0 || !b->config_changed) {
        return;
    }
    len = send(b->channel, &hdr, sizeof(hdr), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (len == sizeof(hdr)) {
        b->config_changed = false;
    } else if (len < 0 && (errno == EAGAIN || errno == EINTR)) {
        timer_mod(b->channel_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + RETRY_MS);
    } else {
        vm2vm_channel_close(link);
    }
}

void vm2vm_channel_init(Vm2vmLink *link)
{
    link->backend.channel = -1;
    link->backend.channel_timer = timer_new_ms(QEMU_CLOCK_REALTIME, say_changed,
                                               link);
}

void vm2vm_channel_cleanup(Vm2vmLink *link)
{
    vm2vm_channel_close(link);
    timer_free(link->backend.channel_timer);
}

void vm2vm_channel_close(Vm2vmLink *link)
{
    Vm2vmBackend *b = &link->backend;

    timer_del(b->channel_timer);
    vm2vm_fd_close_of(link->chr.chr, b->channel);
    b->channel = -1;
    b->config_changed = false;
}

void vm2vm_channel_set(Vm2vmLink *link, Error **errp)
{
    if (!vm2vm_fd_is(link->parser.fd, VM2VM_FD_SOCKET)) {
        error_setg(errp, "SET_BACKEND_REQ_FD with what is not a UNIX socket");
        return;
    }
    vm2vm_channel_close(link);
    link->backend.channel = link->parser.fd;
    link->parser.fd = -1;
}

void vm2vm_channel_config_changed(Vm2vmLink *link)
{
    Vm2vmBackend *b = &link->backend;

    if (b->channel >= 0 && (b->protocol_features & VM2VM_PROTOCOL_F_CONFIG)) {
        b->config_changed = true;
        if (!timer_pending(b->channel_timer)) {
            say_changed(link);
        }
    }
}

/* What is beyond the guest's is 0: its device may know less than another */
void vm2vm_config_get(Vm2vmLink *link, Vm2vmPayload *reply)
{
    Vm2vmPayload *payload = &link->parser.msg.payload;
    Vm2vmBackend *b = &link->backend;
    uint32_t offset = payload->config.offset, size = payload->config.size;
    uint32_t known;

    if (offset > VM2VM_MAX_CONFIG || size > VM2VM_MAX_CONFIG - offset) {
        /* An answer without anything is vhost-user's way to refuse */
        return;
    }
    reply->config.offset = offset;
    reply->config.size = size;
    reply->config.flags = payload->config.flags;
    if (offset < b->offer.config_size) {
        known = MIN(size, b->offer.config_size - offset);
        memcpy(reply->config.region, b->config + offset, known);
    }
}

void vm2vm_config_set(Vm2vmLink *link, Error **errp)
{
    Vm2vmPayload *payload = &link->parser.msg.payload;
    Vm2vmBackend *b = &link->backend;
    uint32_t offset = payload->config.offset, size = payload->config.size;

    if (offset > b->offer.config_size ||
        size > b->offer.config_size - offset) {
        error_setg(errp, "SET_CONFIG of %" PRIu32 " bytes at %" PRIu32
                   ", and there are %" PRIu32, size, offset,
                   b->offer.config_size);
        return;
    }
    memcpy(b->config + offset, payload->config.region, size);
    b->config_generation++;
    vm2vm_backend_tell(b);
}
