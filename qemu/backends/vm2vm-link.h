/*
 * vm2vm: what the parts of a vm2vm-link object share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BACKENDS_VM2VM_LINK_H
#define BACKENDS_VM2VM_LINK_H

#include "chardev/char-fe.h"
#include "hw/qdev-core.h"
#include "hw/virtio/virtio.h"
#include "qapi/qapi-types-vm2vm.h"
#include "qom/object.h"
#include "system/vm2vm.h"
#include "vm2vm-dma.h"
#include "vm2vm-proto.h"

/* What the guest is shown of a queue */
typedef enum Vm2vmQueueState {
    VM2VM_QUEUE_OFF,
    VM2VM_QUEUE_ENABLED,
    VM2VM_QUEUE_STOPPING,       /* it has to tell where it stops */
} Vm2vmQueueState;

/* A queue of the owner's device */
typedef struct Vm2vmQueue {
    bool enable;                /* SET_VRING_ENABLE */
    bool started;               /* SET_VRING_KICK to GET_VRING_BASE */
    bool has_addr;
    bool unknown;               /* it did not tell in time where it stopped */
    Vm2vmQueueState state;      /* follows from these; then the rest stays */
    uint32_t gate;              /* the epoch that it must have acknowledged */
    uint32_t stop_epoch;        /* that of VM2VM_QUEUE_STOPPING */
    uint32_t size;
    uint32_t next;
    uint64_t desc;
    uint64_t avail;
    uint64_t used;
    int kick;                   /* eventfds, or -1 */
    int call;
} Vm2vmQueue;

typedef struct Vm2vmOwner {
    DeviceState *dev;           /* property "device", while it is there */
    AddressSpace *as;
    DeviceListener listener;
    Notifier machine_done;
    VMChangeStateEntry *vm_state;
    bool running;               /* the VM: not stopped, but maybe suspended */
    int domain;                 /* made for each time that the VM runs */
    uint32_t awaits;            /* the request whose answer comes next, or 0 */
    Vm2vmDma dma;
} Vm2vmOwner;

/* What the device that shows the window wants to know */
typedef struct Vm2vmBackendOps {
    /* The window shows something else now: vm2vm_backend_domain() */
    void (*window)(void *opaque);
    /* The queue has other eventfds, or none: vm2vm_backend_kick(), _call() */
    void (*queue)(void *opaque, unsigned int q);
    /* The guest has to look at its registers */
    void (*state)(void *opaque);
} Vm2vmBackendOps;

/* What the guest registers: from this the link answers */
typedef struct Vm2vmOffer {
    uint64_t features;
    uint64_t protocol;
    uint32_t device_type;
    uint32_t queues;
    uint32_t config_size;
} Vm2vmOffer;

/* The in-flight memory that the peer has passed */
typedef struct Vm2vmInflight {
    int fd;                     /* -1: none */
    uint64_t size;
    uint16_t queues;
    uint16_t queue_size;
} Vm2vmInflight;

typedef struct Vm2vmBackend {
    /* The guest's */
    bool registered;            /* READY */
    bool turned_away;           /* a peer came before that, as has been said */
    Vm2vmOffer offer;
    uint8_t config[VM2VM_MAX_CONFIG];
    uint32_t config_generation;
    /* The fence */
    uint32_t epoch;             /* counts; never 0 */
    uint32_t first_epoch;       /* of this peer */
    uint32_t domain_epoch;      /* of this domain */
    uint32_t ack;               /* 0, or from first_epoch to epoch */
    bool window;                /* the domain is shown */
    /* The peer's */
    uint64_t protocol_features;
    int domain;
    uint64_t features;
    uint32_t device_type;
    uint32_t nr_queues;
    uint32_t status;
    uint32_t mtu;
    uint32_t rarps;
    uint64_t rarp_mac;
    Vm2vmInflight inflight;
    Vm2vmQueue queues[VM2VM_MAX_QUEUES];
    /* GET_VRING_BASE waits for the guest, or does not any more in this run */
    int base_of;                /* queue, or -1 */
    QEMUTimer *base_timer;
    bool deaf;
    /* The channel the other way: -1, or its socket */
    int channel;
    bool config_changed;        /* to be told */
    QEMUTimer *channel_timer;
    const Vm2vmBackendOps *ops;
    void *opaque;
    const char *device_id;
    /* Statistics, for which the device calls */
    uint64_t refused[2];        /* reads, writes */
    uint64_t shown;
    uint64_t slow_doorbells;
    /* VM2VM_ACCESS_REFUSED */
    int64_t reported;           /* ns */
    uint64_t unreported;
    uint64_t refused_iova;
    bool refused_write;
} Vm2vmBackend;

/* A message that the socket has not taken yet */
typedef struct Vm2vmOutgoing {
    int fd;                     /* a duplicate, or -1 */
    size_t len;
    size_t sent;
    uint8_t data[sizeof(Vm2vmHeader) + sizeof(Vm2vmPayload)];
    QSIMPLEQ_ENTRY(Vm2vmOutgoing) next;
} Vm2vmOutgoing;

struct Vm2vmLink {
    Object parent_obj;

    /* Properties */
    bool has_role;
    Vm2vmRole role;
    char *chardev_id;
    char *device_id;
    uint64_t size;
    uint64_t base;
    Vm2vmUnapproved unapproved;
    bool bypass;

    const char *id;
    bool complete;
    CharBackend chr;
    bool open;                  /* the chardev is connected */
    bool ready;                 /* and whoever is there speaks the protocol */
    uint32_t peers;
    uint32_t dropped;
    Vm2vmParser parser;
    QSIMPLEQ_HEAD(, Vm2vmOutgoing) out;
    unsigned int nr_out;
    guint out_watch;
    bool writing;
    QEMUTimer *timer;           /* until when we want something from the peer */
    const char *waits_for;
    QEMUTimer *drop_timer;
    QEMUTimer *congested_timer; /* then it is said that nobody is taken */
    bool congested;             /* it was */
    char *drop_reason;
    bool drop_quietly;
    bool turned_away;           /* a peer hung up on us, as has been said */

    Vm2vmOwner owner;
    Vm2vmBackend backend;

    QTAILQ_ENTRY(Vm2vmLink) next;
};

/* The first, or next, one */
Vm2vmLink *vm2vm_link_next(Vm2vmLink *link);
/*
 * Send, without waiting: what the socket does not take waits here. Returns
 * false if the peer is dropped. @fd stays the caller's.
 */
bool vm2vm_link_send(Vm2vmLink *link, uint32_t request, uint32_t flags,
                     const Vm2vmPayload *payload, int fd);
/* Drop the peer, a little later. Takes @err. */
void vm2vm_link_drop(Vm2vmLink *link, Error *err);
/* The peer has to do something soon; NULL: it has done it */
void vm2vm_link_wait_for(Vm2vmLink *link, const char *what);
/* The peer speaks the protocol */
void vm2vm_link_ready(Vm2vmLink *link);
/* What was waited for is there: the peer's next message may come */
void vm2vm_link_resume(Vm2vmLink *link);

/* Of either role: what becomes of a connection, and a message for it */
bool vm2vm_owner_setup(Vm2vmLink *link, Error **errp);
void vm2vm_owner_cleanup(Vm2vmLink *link);
void vm2vm_owner_opened(Vm2vmLink *link);
void vm2vm_owner_closed(Vm2vmLink *link);
void vm2vm_owner_message(Vm2vmLink *link, Error **errp);

void vm2vm_backend_init(Vm2vmLink *link);
void vm2vm_backend_cleanup(Vm2vmLink *link);
void vm2vm_backend_opened(Vm2vmLink *link);
void vm2vm_backend_closed(Vm2vmLink *link);
void vm2vm_backend_message(Vm2vmLink *link, Error **errp);
Vm2vmQueueInfoList *vm2vm_backend_queues(Vm2vmLink *link);

/*
 * For the device, of which there is one for each link: what its guest does
 */
bool vm2vm_backend_attach(Vm2vmLink *link, const Vm2vmBackendOps *ops,
                          void *opaque, const char *device_id, Error **errp);
void vm2vm_backend_detach(Vm2vmLink *link);
/* READY is written; false ends the connection, and the fence is up at once */
void vm2vm_backend_register(Vm2vmLink *link, bool ready);
/* All that it had registered is gone */
void vm2vm_backend_reset(Vm2vmLink *link);
void vm2vm_backend_ack(Vm2vmLink *link, uint32_t epoch);
void vm2vm_backend_stopped(Vm2vmLink *link, unsigned int q, uint32_t next);
void vm2vm_backend_config_changed(Vm2vmLink *link);
/* After a reset: it goes on as it was in @epoch, or elsewhere */
void vm2vm_backend_loaded(Vm2vmLink *link, uint32_t epoch);
/* The guest made an access that is not approved */
void vm2vm_backend_refused(Vm2vmLink *link, uint64_t iova, bool write);
/* What the guest may have of the peer's now, or -1 */
int vm2vm_backend_domain(Vm2vmLink *link);
int vm2vm_backend_kick(Vm2vmLink *link, unsigned int q);
int vm2vm_backend_call(Vm2vmLink *link, unsigned int q);
const Vm2vmInflight *vm2vm_backend_inflight(Vm2vmLink *link);

/* For its messages, vm2vm-messages.c */
void vm2vm_backend_tell(Vm2vmBackend *b);
/* The fields of a queue that say whether it is to run have changed */
void vm2vm_backend_update_queue(Vm2vmBackend *b, unsigned int q);
/* @where is its kick or its call. Takes @fd. */
void vm2vm_backend_set_fd(Vm2vmBackend *b, unsigned int q, int *where, int fd);
/* GET_VRING_BASE, to be answered now or later */
void vm2vm_backend_get_base(Vm2vmLink *link, unsigned int q);
/* The domain, which it takes */
void vm2vm_backend_begin_run(Vm2vmLink *link, int fd);
void vm2vm_backend_end_run(Vm2vmLink *link);

/* vm2vm-channel.c: the configuration space, both ways */
void vm2vm_channel_init(Vm2vmLink *link);
void vm2vm_channel_cleanup(Vm2vmLink *link);
void vm2vm_channel_set(Vm2vmLink *link, Error **errp);
void vm2vm_channel_close(Vm2vmLink *link);
void vm2vm_channel_config_changed(Vm2vmLink *link);
void vm2vm_config_get(Vm2vmLink *link, Vm2vmPayload *reply);
void vm2vm_config_set(Vm2vmLink *link, Error **errp);

/* vm2vm-inflight.c: memory that both have */
/* Returns the memory's file descriptor, or -1 */
int vm2vm_inflight_make(Vm2vmLink *link, Vm2vmPayload *reply);
void vm2vm_inflight_set(Vm2vmLink *link, Error **errp);
void vm2vm_inflight_drop(Vm2vmLink *link);

#endif
