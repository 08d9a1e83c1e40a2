/*
 * vm2vm: a backend's peer says whatever libFuzzer makes up
 *
 * The parser and all that a backend does with messages are the real ones; KVM
 * and the device are not here. After each conversation no file descriptor may
 * be left open, and whatever the device is told must hold.
 *
 * The input is a list of messages: most of them get a header that is right, for
 * to be wrong from the start is easy, and is done soon.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/eventfd.h>
#include "../../backends/vm2vm-proto.c"
#include "../../backends/vm2vm-backend.c"

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

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
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

static void check_domain(void *opaque)
{
    int fd = the_link.backend.domain;

    assert(fd < 0 || is_open(fd));
}

static void check_queue(void *opaque, unsigned int q)
{
    Vm2vmBackend *b = &the_link.backend;
    Vm2vmQueue *queue;

    assert(q < VM2VM_MAX_QUEUES);
    queue = &b->queues[q];
    /* Also when it ends: the device removes what it has made of them */
    assert(queue->kick < 0 || is_open(queue->kick));
    assert(queue->call < 0 || is_open(queue->call));
    if (queue->enabled) {
        assert(b->domain >= 0 && q < b->nr_queues);
        assert(queue->size && queue->size <= VM2VM_MAX_QUEUE_SIZE);
        assert(queue->has_addr && queue->next <= UINT16_MAX);
    }
}

static void check_state(void *opaque)
{
    assert(the_link.backend.nr_queues <= VM2VM_MAX_QUEUES);
}

static const Vm2vmBackendOps ops = {
    .domain = check_domain,
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
    int size;

    if ((op & 0x1f) < ARRAY_SIZE(requests)) {
        hdr.request = requests[op & 0x1f].request;
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

static size_t make_fds(uint8_t op, int *fds)
{
    switch (op >> 6) {
    case 1:
        fds[0] = eventfd(0, 0);
        return 1;
    case 2:
        fds[0] = open("/dev/null", O_RDWR);
        return 1;
    case 3:
        fds[0] = eventfd(0, 0);
        fds[1] = eventfd(0, 0);
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

static int open_fds(void)
{
    int fd, n = 0;

    for (fd = 0; fd < 256; fd++) {
        n += is_open(fd);
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int before = open_fds();
    Vm2vmLink *link = &the_link;
    bool alive = true;

    in = data;
    left = size;
    dropped = false;
    memset(link, 0, sizeof(*link));
    link->id = "fuzz";
    vm2vm_parser_init(&link->parser);
    vm2vm_backend_init(link);
    link->backend.ops = &ops;
    link->open = true;
    vm2vm_backend_opened(link);
    refuses = take_byte() == 0xff;

    while (left && alive && !dropped) {
        uint8_t op = take_byte(), buf[sizeof(Vm2vmHeader) + 64];
        size_t len = make_message(op, buf, sizeof(buf));
        int fds[2];
        size_t nr_fds = make_fds(op, fds);

        alive = feed(link, buf, len, fds, nr_fds);
    }
    link->open = false;
    link->ready = false;
    vm2vm_parser_reset(&link->parser);
    vm2vm_backend_closed(link);
    assert(link->backend.domain < 0);
    assert(open_fds() == before);
    return 0;
}
