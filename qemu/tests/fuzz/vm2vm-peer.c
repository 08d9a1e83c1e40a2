/*
 * vm2vm: a backend's peer, and its guest, say whatever libFuzzer makes up
 *
 * The parser, the registers and all that a backend does with either are the
 * real ones; KVM and the device are not here. After each conversation no file
 * descriptor may be left open, and whatever the device is told must hold: above
 * all, that nothing is shown that the guest has not acknowledged.
 *
 * The input is a list of messages and accesses: most messages get a header that
 * is right, for to be wrong from the start is easy, and is done soon.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include "../../backends/vm2vm-proto.c"
#include "../../backends/vm2vm-backend.c"
#include "../../backends/vm2vm-messages.c"
#include "../../backends/vm2vm-channel.c"
#include "../../backends/vm2vm-inflight.c"
#include "../../hw/misc/vm2vm-pci-regs.c"

/* What of QEMU they use */
uint16_t _TRACE_VM2VM_REFUSED_DSTATE;

static bool dropped;
static bool refuses;

bool vm2vm_link_send(Vm2vmLink *link, uint32_t request, uint32_t flags,
                     const Vm2vmPayload *payload, int fd)
{
    assert(vm2vm_payload_size(request, flags & VM2VM_FLAGS_REPLY) >= 0);
    return true;
}

void vm2vm_link_drop(Vm2vmLink *link, Error *err)
{
    error_free(err);
    dropped = true;
}

void vm2vm_link_wait_for(Vm2vmLink *link, const char *what)
{
    link->waits_for = what;
}

void vm2vm_link_ready(Vm2vmLink *link)
{
    assert(!link->ready);
    link->ready = true;
}

void vm2vm_link_resume(Vm2vmLink *link)
{
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* Here they are closed at once, so that they can be counted */
void vm2vm_fd_close_of(const void *peer, int fd)
{
    assert(fd < 0 || close(fd) == 0);
}

void vm2vm_fd_close(int fd)
{
    vm2vm_fd_close_of(NULL, fd);
}

/* QEMU's event notifiers have it; so they do not bring the one there is */
void vm2vm_fd_signal(const void *peer, int fd)
{
}

bool vm2vm_fd_congested(const void *peer)
{
    return false;
}

/* A domain is of this kind here */
#define DOMAIN_FILE "/dev/null"

bool vm2vm_fd_is(int fd, Vm2vmFdKind kind)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *target = g_file_read_link(path, NULL);
    static const char *const prefixes[] = {
        [VM2VM_FD_EVENTFD] = "anon_inode:[eventfd]",
        [VM2VM_FD_DOMAIN] = DOMAIN_FILE,
        [VM2VM_FD_SOCKET] = "socket:[",
        [VM2VM_FD_MEMORY] = "/memfd:",
    };

    return target && g_str_has_prefix(target, prefixes[kind]);
}

bool kvm_vm2vm_check_domain(int fd, Error **errp)
{
    assert(is_open(fd));
    if (refuses) {
        error_setg(errp, "refused");
    }
    return !refuses;
}

void qapi_event_send_vm2vm_access_refused(const char *id, uint64_t iova,
                                          bool write, uint64_t count)
{
}

void qemu_system_vmstop_request_prepare(void)
{
}

void qemu_system_vmstop_request(RunState state)
{
}

/* The device */

static Vm2vmLink the_link;
static Vm2vmPci the_device;

uint32_t vm2vm_pci_kicks(Vm2vmPci *s, unsigned int q)
{
    assert(q < VM2VM_MAX_QUEUES);
    return 0;
}

static void check_window(void *opaque)
{
    Vm2vmBackend *b = &the_link.backend;
    int fd = vm2vm_backend_domain(&the_link);
    const Vm2vmInflight *inflight = vm2vm_backend_inflight(&the_link);

    if (fd >= 0) {
        assert(is_open(fd) && b->registered);
        assert((int32_t)(b->ack - b->domain_epoch) >= 0);
        assert((int32_t)(b->epoch - b->ack) >= 0);
    }
    if (inflight) {
        assert(fd >= 0 && is_open(inflight->fd) && inflight->size);
        assert(inflight->size <= VM2VM_PCI_INFLIGHT_BAR_SIZE);
    }
}

static void check_queue(void *opaque, unsigned int q)
{
    Vm2vmBackend *b = &the_link.backend;
    Vm2vmQueue *queue;
    int kick, call;

    assert(q < VM2VM_MAX_QUEUES);
    queue = &b->queues[q];
    kick = vm2vm_backend_kick(&the_link, q);
    call = vm2vm_backend_call(&the_link, q);
    /* Also when it ends: the device removes what it has made of them */
    assert(kick < 0 || is_open(kick));
    assert(call < 0 || is_open(call));
    assert((kick < 0 && call < 0) || vm2vm_backend_domain(&the_link) >= 0);
    if (queue->state == VM2VM_QUEUE_ENABLED) {
        assert(b->domain >= 0 && q < b->nr_queues);
        assert(queue->size && queue->size <= VM2VM_MAX_QUEUE_SIZE);
        assert(queue->has_addr);
    }
}

static void check_state(void *opaque)
{
    Vm2vmBackend *b = &the_link.backend;

    assert(b->nr_queues <= b->offer.queues);
    assert(b->offer.queues && b->offer.queues <= VM2VM_MAX_QUEUES);
    assert(b->offer.config_size <= VM2VM_MAX_CONFIG && b->epoch);
}

static const Vm2vmBackendOps ops = {
    .window = check_window,
    .queue = check_queue,
    .state = check_state,
};

/* Input */

static const uint8_t *in;
static size_t left;

static void take(void *to, size_t len)
{
    size_t n = MIN(len, left);

    memset(to, 0, len);
    memcpy(to, in, n);
    in += n;
    left -= n;
}

static uint8_t take_byte(void)
{
    uint8_t byte;

    take(&byte, 1);
    return byte;
}

static size_t make_message(uint8_t op, uint8_t *buf, size_t max)
{
    Vm2vmHeader hdr = { .flags = VM2VM_FLAGS_VERSION };
    uint8_t which = op & 0x1f;
    int size;

    if (which < ARRAY_SIZE(requests)) {
        hdr.request = requests[which].request;
    } else {
        hdr.request = take_byte();
    }
    size = vm2vm_payload_size(hdr.request, false);
    hdr.size = MAX(size, 0);
    if (op & 0x20) {
        hdr.flags = take_byte();
        take(&hdr.size, sizeof(hdr.size));
    }
    memcpy(buf, &hdr, sizeof(hdr));
    take(buf + sizeof(hdr), MIN(hdr.size, max - sizeof(hdr)));
    return sizeof(hdr) + MIN(hdr.size, max - sizeof(hdr));
}

static int make_fd(uint8_t kind)
{
    int fds[2] = { -1, -1 };

    switch (kind % 4) {
    case 0:
        return eventfd(0, 0);
    case 1:
        return open(DOMAIN_FILE, O_RDWR);
    case 2:
        fds[0] = memfd_create("fuzz", 0);
        assert(!ftruncate(fds[0], 65536));
        return fds[0];
    default:
        assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
        close(fds[1]);
        return fds[0];
    }
}

/* What goes with the message if it is a good one, or none, or something else */
static size_t make_fds(uint8_t op, uint32_t request, int *fds)
{
    switch (op >> 6) {
    case 1:
        fds[0] = make_fd(request == VM2VM_SET_DOMAIN ? 1 :
                         request == VM2VM_SET_INFLIGHT_FD ? 2 :
                         request == VM2VM_SET_BACKEND_REQ_FD ? 3 : 0);
        return 1;
    case 2:
        fds[0] = make_fd(take_byte());
        return 1;
    case 3:
        fds[0] = make_fd(0);
        fds[1] = make_fd(1);
        return 2;
    }
    return 0;
}

/* As the chardev's read handler does; false: the peer is dropped */
static bool feed(Vm2vmLink *link, const uint8_t *buf, size_t len,
                 const int *fds, size_t nr_fds)
{
    Error *err = NULL;
    size_t step = take_byte() % 8 + 1;

    while (len) {
        size_t n = MIN(len, MIN(vm2vm_parser_wants(&link->parser), step));
        int ret = vm2vm_parser_feed(&link->parser, false, buf, n, fds, nr_fds,
                                    &err);

        nr_fds = 0;
        buf += n;
        len -= n;
        step = SIZE_MAX;
        if (ret > 0) {
            vm2vm_backend_message(link, &err);
            vm2vm_parser_reset(&link->parser);
        }
        assert((ret < 0) <= (err != NULL));
        if (err) {
            error_free(err);
            return false;
        }
    }
    return true;
}

/* The guest reads and writes where it likes; or it does what a good one does */
static void access_registers(Vm2vmLink *link)
{
    static const hwaddr good[] = { VM2VM_PCI_ACK, VM2VM_PCI_CONFIG_CHANGED,
        VM2VM_PCI_QUEUE(0) + VM2VM_PCI_QUEUE_STOPPED,
        VM2VM_PCI_QUEUE(1) + VM2VM_PCI_QUEUE_STOPPED };
    uint8_t how = take_byte();
    unsigned int size = 1 << (how >> 6);
    uint64_t value = link->backend.epoch;
    uint16_t addr;

    if (how % 8 < ARRAY_SIZE(good)) {
        registers_write(&the_device, good[how % 8], value, 4);
        return;
    }
    take(&addr, sizeof(addr));
    addr %= VM2VM_REGISTERS_SIZE;
    addr -= addr % size;
    if (how & 0x20) {
        registers_read(&the_device, addr, size);
        return;
    }
    take(&value, size);
    registers_write(&the_device, addr, value, size);
}

/* The clock stands still here, but for this */
static void pass_time(Vm2vmLink *link)
{
    if (link->backend.base_of >= 0) {
        base_timeout(link);
    }
    say_changed(link);
}

static int open_fds(void)
{
    int fd, n = 0;

    for (fd = 0; fd < 256; fd++) {
        n += is_open(fd);
    }
    return n;
}

static void offer(Vm2vmLink *link)
{
    Vm2vmBackend *b = &link->backend;

    b->offer.protocol = VM2VM_PROTOCOL_CHOICE;
    b->offer.queues = 4;
    b->offer.config_size = 32;
    vm2vm_backend_register(link, true);
}

/* An operation; false: the peer has gone */
static bool operate(Vm2vmLink *link)
{
    uint8_t op = take_byte(), buf[sizeof(Vm2vmHeader) + 64];
    int fds[2];
    size_t len, nr_fds;

    if ((op & 0x1f) == 0x1f) {
        access_registers(link);
    } else if ((op & 0x1f) == 0x1e) {
        pass_time(link);
    } else if (link->backend.base_of < 0) {
        len = make_message(op, buf, sizeof(buf));
        nr_fds = make_fds(op, ((Vm2vmHeader *)buf)->request, fds);
        return feed(link, buf, len, fds, nr_fds);
    }
    return true;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    init_clocks(NULL);
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int before = open_fds();
    Vm2vmLink *link = &the_link;

    in = data;
    left = size;
    dropped = false;
    memset(link, 0, sizeof(*link));
    link->id = "fuzz";
    the_device.link = link;
    vm2vm_parser_init(&link->parser, link);
    vm2vm_backend_init(link);
    link->backend.ops = &ops;
    offer(link);
    link->open = true;
    vm2vm_backend_opened(link);
    refuses = take_byte() == 0xff;

    while (left && !dropped && operate(link)) {
        check_state(NULL);
        check_window(NULL);
    }
    link->open = false;
    link->ready = false;
    vm2vm_parser_reset(&link->parser);
    vm2vm_backend_closed(link);
    assert(link->backend.domain < 0);
    /* What it writes then */
    while (left) {
        access_registers(link);
    }
    vm2vm_backend_cleanup(link);
    assert(open_fds() == before);
    return 0;
}
