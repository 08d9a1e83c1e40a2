/*
 * vm2vm: the object that is one end of a link between two VMs
 *
 * Here are its properties, its chardev and what QMP tells of it;
 * vm2vm-owner.c and vm2vm-backend.c have what it does in either role.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qapi/qapi-events-vm2vm.h"
#include "qapi/visitor.h"
#include "qom/object_interfaces.h"
#include "chardev/char-socket.h"
#include "chardev/char.h"
#include "qemu/vm2vm-fd.h"
#include "vm2vm-link.h"
#include "trace.h"

/* How long a peer may take for what it has to do at once */
#define PATIENCE_MS 5000
/* One that comes back at once would else fill the log */
#define PEER_INTERVAL_MS 100
/* An owner has something to say of each of its queues */
#define MAX_OUTGOING 2048
/* The window's size: a page, to the largest power of 2 that is a memslot */
#define WINDOW_MIN (4 * KiB)
#define WINDOW_MAX (4 * TiB)
/* All bus addresses that a driver takes as long as it has a choice */
#define DEFAULT_SIZE (4 * GiB)

static QTAILQ_HEAD(, Vm2vmLink) links = QTAILQ_HEAD_INITIALIZER(links);

Vm2vmLink *vm2vm_link_next(Vm2vmLink *link)
{
    return link ? QTAILQ_NEXT(link, next) : QTAILQ_FIRST(&links);
}

/* Outgoing messages */

static const char reading[] = "reading";
static const char congested[] = "descriptors of peers do not close";

static void out_free(Vm2vmLink *link, Vm2vmOutgoing *out)
{
    QSIMPLEQ_REMOVE_HEAD(&link->out, next);
    link->nr_out--;
    if (out->fd >= 0) {
        close(out->fd);
    }
    g_free(out);
}

static void out_clear(Vm2vmLink *link)
{
    while (!QSIMPLEQ_EMPTY(&link->out)) {
        out_free(link, QSIMPLEQ_FIRST(&link->out));
    }
    g_clear_handle_id(&link->out_watch, g_source_remove);
}

/* 1: it is sent, 0: later, -1: the peer takes no more */
static int out_send(Vm2vmLink *link, Vm2vmOutgoing *out)
{
    int n;

    if (!out->sent && out->fd >= 0 &&
        qemu_chr_fe_set_msgfds(&link->chr, &out->fd, 1) < 0) {
        return -1;
    }
    errno = 0;
    n = qemu_chr_fe_write(&link->chr, out->data + out->sent,
                          out->len - out->sent);
    if (n <= 0) {
        return errno == EAGAIN ? 0 : -1;
    }
    out->sent += n;
    return out->sent == out->len;
}

static gboolean out_flush(void *do_not_use, GIOCondition cond, void *opaque)
{
    Vm2vmLink *link = opaque;
    Vm2vmOutgoing *out;
    Error *err = NULL;
    int ret = 1;

    /* If a write fails now, the chardev does not close within it */
    link->writing = true;
    while (ret > 0 && (out = QSIMPLEQ_FIRST(&link->out))) {
        ret = out_send(link, out);
        if (ret > 0) {
            out_free(link, out);
        }
    }
    link->writing = false;
    if (!ret) {
        if (!link->out_watch) {
            link->out_watch = qemu_chr_fe_add_watch(&link->chr,
                                                    G_IO_OUT | G_IO_HUP,
                                                    out_flush, link);
            if (!link->waits_for) {
                vm2vm_link_wait_for(link, reading);
            }
        }
        return G_SOURCE_CONTINUE;
    }
    link->out_watch = 0;
    if (ret < 0) {
        error_setg(&err, "it does not take %s", vm2vm_request_name(
                       ((Vm2vmHeader *)out->data)->request));
        if (!link->ready && !link->drop_reason) {
            /* Who is turned away there comes again and again: say it once */
            link->drop_quietly = link->turned_away;
            link->turned_away = true;
        }
        vm2vm_link_drop(link, err);
    } else if (cond) {
        if (link->waits_for == reading) {
            vm2vm_link_wait_for(link, NULL);
        }
        vm2vm_link_resume(link);
    }
    return G_SOURCE_REMOVE;
}

static int message_size(uint32_t request, bool reply,
                        const Vm2vmPayload *payload)
{
    int size = payload ? vm2vm_payload_size(request, reply) : 0;

    if (request == VM2VM_GET_CONFIG && reply) {
        size = payload->config.size ? size + payload->config.size : 0;
    }
    return size;
}

bool vm2vm_link_send(Vm2vmLink *link, uint32_t request, uint32_t flags,
                     const Vm2vmPayload *payload, int fd)
{
    int size = message_size(request, flags & VM2VM_FLAGS_REPLY, payload);
    Vm2vmHeader hdr = {
        .request = request,
        .flags = flags | VM2VM_FLAGS_VERSION,
        .size = size,
    };
    Vm2vmOutgoing *out;
    Error *err = NULL;

    if (link->drop_reason || !link->open) {
        return false;
    }
    if (link->nr_out == MAX_OUTGOING) {
        error_setg(&err, "it does not take %s", vm2vm_request_name(request));
        vm2vm_link_drop(link, err);
        return false;
    }
    out = g_new0(Vm2vmOutgoing, 1);
    out->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    out->len = sizeof(hdr) + size;
    memcpy(out->data, &hdr, sizeof(hdr));
    if (size) {
        memcpy(out->data + sizeof(hdr), payload, size);
    }
    trace_vm2vm_send(link->id, vm2vm_request_name(request), hdr.flags);
    QSIMPLEQ_INSERT_TAIL(&link->out, out, next);
    link->nr_out++;
    if (!link->out_watch) {
        out_flush(NULL, 0, link);
    }
    return !link->drop_reason;
}

void vm2vm_link_drop(Vm2vmLink *link, Error *err)
{
    if (link->open && !link->drop_reason) {
        link->drop_reason = g_strdup(error_get_pretty(err));
        timer_mod(link->drop_timer, 0);
    }
    error_free(err);
}

/*
 * A peer that comes and goes costs lines in the log, events and descriptors,
 * whoever hangs up. So the next one waits for a while.
 */
static void hold_next(Vm2vmLink *link)
{
    SOCKET_CHARDEV(link->chr.chr)->not_before =
        qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + PEER_INTERVAL_MS;
}

/*
 * Not from within the chardev's handlers, which do not expect that it closes.
 * Until then the peer is not heard.
 */
static void drop(void *opaque)
{
    Vm2vmLink *link = opaque;

    hold_next(link);
    link->dropped++;
    if (!link->drop_quietly) {
        error_report("vm2vm-link '%s': dropping the peer: %s", link->id,
                     link->drop_reason);
    }
    qemu_chr_fe_disconnect(&link->chr);
}

void vm2vm_link_wait_for(Vm2vmLink *link, const char *what)
{
    link->waits_for = link->open ? what : NULL;
    if (link->waits_for) {
        timer_mod(link->timer,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + PATIENCE_MS);
    } else {
        timer_del(link->timer);
    }
}

static void waited(void *opaque)
{
    Vm2vmLink *link = opaque;
    Error *err = NULL;

    error_setg(&err, "no %s within %d seconds", link->waits_for,
               PATIENCE_MS / 1000);
    vm2vm_link_drop(link, err);
}

void vm2vm_link_ready(Vm2vmLink *link)
{
    hold_next(link);
    link->ready = true;
    link->turned_away = link->congested = false;
    link->peers++;
    qapi_event_send_vm2vm_peer_connected(link->id);
}

/* While it waits for our answer a peer has nothing to say */
static int chr_can_read(void *opaque)
{
    Vm2vmLink *link = opaque;

    if (link->writing) {
        return 1;
    }
    if (link->drop_reason || link->nr_out || link->backend.base_of >= 0) {
        return 0;
    }
    return vm2vm_parser_wants(&link->parser);
}

void vm2vm_link_resume(Vm2vmLink *link)
{
    if (link->open) {
        qemu_chr_fe_accept_input(&link->chr);
    }
}

static void chr_read(void *opaque, const uint8_t *buf, int size)
{
    Vm2vmLink *link = opaque;
    bool owner = link->role == VM2VM_ROLE_OWNER;
    int fds[VM2VM_FD_MAX], nr_fds;
    Error *err = NULL;
    int ret;

    nr_fds = qemu_chr_fe_get_msgfds(&link->chr, fds, ARRAY_SIZE(fds));
    ret = vm2vm_parser_feed(&link->parser, owner, buf, size, fds,
                            MAX(nr_fds, 0), &err);
    if (!ret && !link->waits_for) {
        vm2vm_link_wait_for(link, "rest of a message");
    }
    if (ret > 0) {
        trace_vm2vm_receive(link->id,
                            vm2vm_request_name(link->parser.msg.hdr.request),
                            link->parser.msg.hdr.flags);
        /* A backend waits for the end of the negotiation, whatever comes */
        if (owner || link->ready) {
            vm2vm_link_wait_for(link, NULL);
        }
        if (owner) {
            vm2vm_owner_message(link, &err);
        } else {
            vm2vm_backend_message(link, &err);
        }
        vm2vm_parser_reset(&link->parser);
    }
    if (!err && vm2vm_fd_congested(link->chr.chr)) {
        /* As those of former peers can be, to say it once will do */
        link->drop_quietly = link->congested;
        link->congested = true;
        error_setg(&err, "%s", congested);
    }
    if (err) {
        vm2vm_link_drop(link, err);
    }
}

/* Until they are closed the chardev takes nobody. Most are soon. */
static void say_congested(void *opaque)
{
    Vm2vmLink *link = opaque;

    if (!link->congested && vm2vm_fd_congested(link->chr.chr)) {
        link->congested = true;
        error_report("vm2vm-link '%s': takes no peer: %s", link->id,
                     congested);
    }
}

static void chr_event(void *opaque, QEMUChrEvent event)
{
    Vm2vmLink *link = opaque;
    bool owner = link->role == VM2VM_ROLE_OWNER;
    bool had_peer;

    if (event == CHR_EVENT_OPENED && !link->open) {
        trace_vm2vm_opened(link->id);
        link->open = true;
        if (owner) {
            vm2vm_owner_opened(link);
        } else {
            vm2vm_backend_opened(link);
        }
    } else if (event == CHR_EVENT_CLOSED && link->open) {
        trace_vm2vm_closed(link->id);
        link->open = false;
        /* A peer that left before it was dropped is no peer that was dropped */
        had_peer = link->ready || (link->drop_reason &&
                                   !timer_pending(link->drop_timer));
        link->ready = false;
        timer_del(link->drop_timer);
        vm2vm_link_wait_for(link, NULL);
        vm2vm_parser_reset(&link->parser);
        out_clear(link);
        if (owner) {
            vm2vm_owner_closed(link);
        } else {
            vm2vm_backend_closed(link);
        }
        if (had_peer && !link->drop_quietly) {
            qapi_event_send_vm2vm_peer_lost(link->id, link->drop_reason);
        }
        g_clear_pointer(&link->drop_reason, g_free);
        link->drop_quietly = false;
        timer_mod(link->congested_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + PEER_INTERVAL_MS);
    }
}

/* Properties that do not go with the role, or not together */
static bool check_properties(Vm2vmLink *link, Error **errp)
{
    bool owner = link->role == VM2VM_ROLE_OWNER;

    if (!link->has_role) {
        error_setg(errp, "property 'role' is missing");
        error_append_hint(errp, "It is 'owner', whose memory is seen, or "
                          "'backend', which sees it.\n");
        return false;
    }
    if (!link->chardev_id) {
        error_setg(errp, "property 'chardev' is missing");
        error_append_hint(errp, "Name a UNIX socket: -chardev socket,id=ID,"
                          "path=PATH, with server=on,wait=off on one side.\n");
        return false;
    }
    if (owner && !link->device_id) {
        error_setg(errp, "property 'device' is missing");
        error_append_hint(errp, "An owner names the device whose DMA address "
                          "space the backend is to see.\n");
        return false;
    }
    if (!owner && link->device_id) {
        error_setg(errp, "property 'device' is for the role 'owner'");
        error_append_hint(errp, "Of a backend the device names the link: "
                          "-device vm2vm-pci,link=ID.\n");
        return false;
    }
    if (owner && (link->size != DEFAULT_SIZE || link->base ||
                  link->unapproved)) {
        error_setg(errp, "property '%s' is for the role 'backend'",
                   link->size != DEFAULT_SIZE ? "size" :
                   link->base ? "base" : "unapproved");
        return false;
    }
    if (!owner && (!is_power_of_2(link->size) || link->size < WINDOW_MIN ||
                   link->size > WINDOW_MAX)) {
        error_setg(errp, "property 'size' is 0x%" PRIx64 ", which is not a "
                   "power of 2 from 4K to 4T", link->size);
        return false;
    }
    if (!owner && (link->base & (WINDOW_MIN - 1))) {
        error_setg(errp, "property 'base' is 0x%" PRIx64 ", which is not a "
                   "multiple of 4096", link->base);
        return false;
    }
    if (!owner && link->base > UINT64_MAX - link->size) {
        error_setg(errp, "property 'base' is 0x%" PRIx64 ": the window would "
                   "end beyond the last bus address", link->base);
        return false;
    }
    return true;
}

static void link_complete(UserCreatable *uc, Error **errp)
{
    Vm2vmLink *link = VM2VM_LINK(uc);
    Chardev *chr;

    link->id = object_get_canonical_path_component(OBJECT(link));
    if (!check_properties(link, errp) || !kvm_vm2vm_available(errp)) {
        return;
    }
    chr = qemu_chr_find(link->chardev_id);
    if (!chr) {
        error_setg(errp, "property 'chardev': there is no chardev '%s'",
                   link->chardev_id);
        return;
    }
    if (!qemu_chr_has_feature(chr, QEMU_CHAR_FEATURE_FD_PASS)) {
        error_setg(errp, "property 'chardev': '%s' cannot pass file "
                   "descriptors", link->chardev_id);
        error_append_hint(errp, "Only a UNIX socket can: -chardev socket,"
                          "path=PATH.\n");
        return;
    }
    if (!qemu_chr_fe_init(&link->chr, chr, errp)) {
        error_prepend(errp, "property 'chardev': ");
        return;
    }
    vm2vm_parser_init(&link->parser, chr);
    link->timer = timer_new_ms(QEMU_CLOCK_REALTIME, waited, link);
    link->drop_timer = timer_new_ms(QEMU_CLOCK_REALTIME, drop, link);
    link->congested_timer = timer_new_ms(QEMU_CLOCK_REALTIME, say_congested,
                                         link);
    if (link->role == VM2VM_ROLE_OWNER && !vm2vm_owner_setup(link, errp)) {
        return;
    }
    link->complete = true;
    QTAILQ_INSERT_TAIL(&links, link, next);
    qemu_chr_fe_set_handlers(&link->chr, chr_can_read, chr_read, chr_event,
                             NULL, link, NULL, true);
}

static bool link_can_be_deleted(UserCreatable *uc)
{
    return !VM2VM_LINK(uc)->backend.ops;
}

static void link_init(Object *obj)
{
    Vm2vmLink *link = VM2VM_LINK(obj);

    link->owner.domain = -1;
    link->size = DEFAULT_SIZE;
    QSIMPLEQ_INIT(&link->out);
    vm2vm_backend_init(link);
}

static void link_finalize(Object *obj)
{
    Vm2vmLink *link = VM2VM_LINK(obj);

    if (link->complete) {
        qemu_chr_fe_set_handlers(&link->chr, NULL, NULL, NULL, NULL, NULL,
                                 NULL, false);
        if (link->open) {
            chr_event(link, CHR_EVENT_CLOSED);
            qemu_chr_fe_disconnect(&link->chr);
        }
        QTAILQ_REMOVE(&links, link, next);
        if (link->role == VM2VM_ROLE_OWNER) {
            vm2vm_owner_cleanup(link);
        }
    }
    vm2vm_backend_cleanup(link);
    if (link->timer) {
        timer_free(link->timer);
        timer_free(link->drop_timer);
        timer_free(link->congested_timer);
        qemu_chr_fe_deinit(&link->chr, false);
    }
    g_free(link->chardev_id);
    g_free(link->device_id);
}

/* What is set once stays: who would tell the peer? */
static bool may_set(Vm2vmLink *link, const char *name, Error **errp)
{
    if (link->complete) {
        error_setg(errp, "property '%s' cannot be changed any more", name);
    }
    return !link->complete;
}

static int get_role(Object *obj, Error **errp)
{
    return VM2VM_LINK(obj)->role;
}

static void set_role(Object *obj, int value, Error **errp)
{
    Vm2vmLink *link = VM2VM_LINK(obj);

    if (may_set(link, "role", errp)) {
        link->role = value;
        link->has_role = true;
    }
}

static int get_unapproved(Object *obj, Error **errp)
{
    return VM2VM_LINK(obj)->unapproved;
}

/* This one may be set at any time */
static void set_unapproved(Object *obj, int value, Error **errp)
{
    Vm2vmLink *link = VM2VM_LINK(obj);

    if (link->complete && link->role == VM2VM_ROLE_OWNER) {
        error_setg(errp, "property 'unapproved' is for the role 'backend'");
        return;
    }
    link->unapproved = value;
    /* KVM's part of it is a property of what it shows */
    if (link->backend.ops) {
        link->backend.ops->window(link->backend.opaque);
    }
}

static char *get_chardev(Object *obj, Error **errp)
{
    return g_strdup(VM2VM_LINK(obj)->chardev_id);
}

static void set_chardev(Object *obj, const char *value, Error **errp)
{
    Vm2vmLink *link = VM2VM_LINK(obj);

    if (may_set(link, "chardev", errp)) {
        g_free(link->chardev_id);
        link->chardev_id = g_strdup(value);
    }
}

static char *get_device(Object *obj, Error **errp)
{
    return g_strdup(VM2VM_LINK(obj)->device_id);
}

static void set_device(Object *obj, const char *value, Error **errp)
{
    Vm2vmLink *link = VM2VM_LINK(obj);

    if (may_set(link, "device", errp)) {
        g_free(link->device_id);
        link->device_id = g_strdup(value);
    }
}

static bool get_bypass(Object *obj, Error **errp)
{
    return VM2VM_LINK(obj)->bypass;
}

static void set_bypass(Object *obj, bool value, Error **errp)
{
    Vm2vmLink *link = VM2VM_LINK(obj);

    if (may_set(link, "bypass", errp)) {
        link->bypass = value;
    }
}

static void get_number(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    Vm2vmLink *link = VM2VM_LINK(obj);
    uint64_t value = strcmp(name, "size") ? link->base : link->size;

    visit_type_size(v, name, &value, errp);
}

static void set_number(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    Vm2vmLink *link = VM2VM_LINK(obj);
    uint64_t value;

    if (may_set(link, name, errp) && visit_type_size(v, name, &value, errp)) {
        if (strcmp(name, "size")) {
            link->base = value;
        } else if (!value) {
            error_setg(errp, "property 'size' is 0");
        } else {
            link->size = value;
        }
    }
}

static void link_class_init(ObjectClass *oc, void *data)
{
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    ucc->complete = link_complete;
    ucc->can_be_deleted = link_can_be_deleted;

    object_class_property_add_enum(oc, "role", "Vm2vmRole", &Vm2vmRole_lookup,
                                   get_role, set_role);
    object_class_property_set_description(oc, "role",
        "owner: its memory is seen; backend: it sees it");
    object_class_property_add_str(oc, "chardev", get_chardev, set_chardev);
    object_class_property_set_description(oc, "chardev",
        "UNIX socket that leads to the other VM");
    object_class_property_add_str(oc, "device", get_device, set_device);
    object_class_property_set_description(oc, "device",
        "owner: ID of the device whose DMA address space counts");
    object_class_property_add_bool(oc, "bypass", get_bypass, set_bypass);
    object_class_property_set_description(oc, "bypass",
        "owner: approve all memory if the device bypasses the IOMMU");
    object_class_property_add(oc, "size", "size", get_number, set_number, NULL,
                              NULL);
    object_class_property_set_description(oc, "size",
        "backend: size of the window (default: 4G)");
    object_class_property_add(oc, "base", "uint64", get_number, set_number,
                              NULL, NULL);
    object_class_property_set_description(oc, "base",
        "backend: bus address that the window begins with");
    object_class_property_add_enum(oc, "unapproved", "Vm2vmUnapproved",
                                   &Vm2vmUnapproved_lookup, get_unapproved,
                                   set_unapproved);
    object_class_property_set_description(oc, "unapproved",
        "backend: what an access does that is not approved");
}

static const TypeInfo link_info = {
    .name = TYPE_VM2VM_LINK,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(Vm2vmLink),
    .instance_init = link_init,
    .instance_finalize = link_finalize,
    .class_init = link_class_init,
    .interfaces = (InterfaceInfo[]) {
        { TYPE_USER_CREATABLE },
        { }
    }
};

static void link_register(void)
{
    type_register_static(&link_info);
}
type_init(link_register);
