/*
 * vhost-user: a back-end that is another VM
 *
 * It gets a domain of KVM, which approves what the device's DMA address space
 * has, in place of the memory. There is one for each run of the device: from
 * DRIVER_OK, while the VM runs, to the stop, a reset, or the loss of the
 * back-end. Then it ends, and with it all that the back-end's guest could
 * reach; so do the eventfds. What began before has nowhere to land.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "hw/virtio/virtio-bus.h"
#include "system/runstate.h"
#include "standard-headers/linux/vhost_types.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ids.h"
#include "standard-headers/linux/virtio_pci.h"
#include "system/vm2vm.h"
#include "vhost-user-vm2vm-int.h"

/* Requests; the last one is ours, and provisional */
#define SET_VRING_CALL      13
#define SET_VRING_ENABLE    18
#define SET_VM2VM_DOMAIN    128

#define VRING_NOFD          0x100
/* A base that the back-end does not know */
#define UNKNOWN             0xffffffff

typedef struct QEMU_PACKED Domain {
    uint32_t version;
    uint32_t device_id;
    uint32_t nr_queues;
    uint32_t flags;
} Domain;

#define DOMAIN_VERSION      2
#define DOMAIN_NONE         1

/* All others have memory of the owner's in them, or wait for a guest */
static const int protocol_bits[] = {
    VHOST_USER_PROTOCOL_F_MQ,
    VHOST_USER_PROTOCOL_F_RARP,
    VHOST_USER_PROTOCOL_F_REPLY_ACK,
    VHOST_USER_PROTOCOL_F_NET_MTU,
    VHOST_USER_PROTOCOL_F_BACKEND_REQ,
    VHOST_USER_PROTOCOL_F_CONFIG,
    VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
    VHOST_USER_PROTOCOL_F_RESET_DEVICE,
    VHOST_USER_PROTOCOL_F_STATUS,
    VHOST_USER_PROTOCOL_F_VM2VM_DOMAIN,
};

/* Of a transport, or of a back-end that shares memory */
static const int refused_bits[] = {
    VHOST_F_LOG_ALL,
    VIRTIO_F_SR_IOV,
    VIRTIO_F_NOTIFICATION_DATA,
    VIRTIO_F_NOTIF_CONFIG_DATA,
    VIRTIO_F_RING_RESET,
    VIRTIO_F_ADMIN_VQ,
};

static VhostUserVm2vm *of(struct vhost_dev *dev)
{
    return dev->vm2vm;
}

/* ---- The connection */

bool vhost_user_vm2vm_check(struct vhost_dev *dev, VhostUserState *user,
                            Error **errp)
{
    if (!dev->vm2vm && user->vm2vm == ON_OFF_AUTO_ON) {
        error_setg(errp, "the back-end does not know of vm2vm domains");
        error_append_hint(errp, "It gets no memory, as the property 'vm2vm' is "
                          "'on'.\n");
        return false;
    }
    if (dev->vm2vm) {
        /* Memory is none of its business */
        user->memory_slots = INT_MAX;
    }
    return true;
}

uint64_t vhost_user_vm2vm_features(struct vhost_dev *dev, uint64_t features)
{
    size_t i;

    if (!dev->vm2vm) {
        return features;
    }
    for (i = 0; i < ARRAY_SIZE(refused_bits); i++) {
        features &= ~(1ULL << refused_bits[i]);
    }
    /* It is for the front-end's device to have an IOMMU or not */
    return features | 1ULL << VIRTIO_F_IOMMU_PLATFORM;
}

uint64_t vhost_user_vm2vm_transport(struct vhost_dev *dev, uint64_t requested,
                                    uint64_t features)
{
    const uint64_t iommu = 1ULL << VIRTIO_F_IOMMU_PLATFORM;

    return dev->vm2vm ? (features & ~iommu) | (requested & iommu) : features;
}

/* ---- A device whose back-end may come later */

bool vhost_user_vm2vm_patient(VhostUserState *user)
{
    return user->vm2vm == ON_OFF_AUTO_ON;
}

bool vhost_user_vm2vm_absent(struct vhost_dev *dev, VhostUserState *user)
{
    return vhost_user_vm2vm_patient(user) && !dev->vhost_ops;
}

/*
 * What every back-end can do. With @bits these are those of the back-end, and
 * the others QEMU's; without, all are the back-end's. A driver that comes along
 * with its VM has taken what the back-end had there.
 */
uint64_t vhost_user_vm2vm_absent_features(VhostUserState *user,
                                          const int *bits, uint64_t requested)
{
    VhostUserVm2vm *v = vhost_user_vm2vm_get(user);
    const uint64_t iommu = 1ULL << VIRTIO_F_IOMMU_PLATFORM;
    uint64_t features = bits ? requested : 0;

    v->minimal = true;
    v->requested = requested;
    if (runstate_check(RUN_STATE_INMIGRATE)) {
        features = bits ? requested : ~(1ULL << VHOST_USER_F_PROTOCOL_FEATURES);
    } else {
        for (; bits && *bits != VHOST_INVALID_FEATURE_BIT; bits++) {
            features &= ~(1ULL << *bits);
        }
    }
    features |= 1ULL << VIRTIO_F_VERSION_1;
    return (features & ~iommu) | (requested & iommu);
}

void vhost_user_vm2vm_refresh(VhostUserState *user, VirtIODevice *vdev,
                              uint8_t status)
{
    VhostUserVm2vm *v = user->vm2vm_link;
    VirtioDeviceClass *k = VIRTIO_DEVICE_GET_CLASS(vdev);
    Error *err = NULL;

    /* Not under the eyes of a driver */
    if (!v || !v->minimal || (status & VIRTIO_CONFIG_S_DRIVER)) {
        return;
    }
    v->minimal = false;
    vdev->host_features = k->get_features(vdev, v->requested, &err);
    if (err) {
        error_report_err(err);
    }
}

/* ---- A run */

static bool is_set_up(VhostUserVm2vm *v, int q)
{
    return v->vdev && virtio_queue_get_desc_addr(v->vdev, q);
}

static int begin(VhostUserVm2vm *v, VirtIODevice *vdev)
{
    Domain payload = {
        .version = DOMAIN_VERSION,
        .device_id = vdev->device_id,
        .nr_queues = virtio_get_num_queues(vdev),
    };
    int ret;

    /* A card's control queue, the last one, is QEMU's */
    if (vdev->device_id == VIRTIO_ID_NET) {
        payload.nr_queues &= ~1;
    }
    if (payload.nr_queues > VHOST_USER_VM2VM_QUEUES) {
        error_report("vhost-user '%s': the device has %" PRIu32 " queues, and "
                     "a VM serves %d", v->id, payload.nr_queues,
                     VHOST_USER_VM2VM_QUEUES);
        return -EINVAL;
    }
    v->domain = kvm_vm2vm_create_domain();
    if (v->domain < 0) {
        ret = v->domain;
        v->domain = -1;
        error_report("vhost-user '%s': KVM makes no domain: %s", v->id,
                     strerror(-ret));
        return ret;
    }
    v->vdev = vdev;
    v->nr_queues = payload.nr_queues;
    bitmap_zero(v->called, VHOST_USER_VM2VM_QUEUES);
    vm2vm_dma_start(&v->dma, "vhost-user", v->id, v->domain, vdev->dma_as,
                    "vm2vm-bypass", v->user->vm2vm_bypass);
    ret = vhost_user_vm2vm_tell(v, SET_VM2VM_DOMAIN, &payload, sizeof(payload),
                                v->domain, true);
    if (ret == -EIO) {
        vhost_user_vm2vm_give_up(v, "it does not take the domain");
    } else if (!ret) {
        v->failures = 0;
    }
    return ret;
}

/*
 * Nobody writes to the rings any more, so this is how they are. What QEMU read
 * while the back-end could write may be older, and what the back-end told need
 * not be true, of a queue that was never enabled, too. The driver is
 * interrupted: it may have missed what was used last.
 */
static void settle(VirtIODevice *vdev, int q, bool notify)
{
    uint16_t told, used;

    if (!virtio_vdev_has_feature(vdev, VIRTIO_F_RING_PACKED)) {
        told = virtio_queue_get_last_avail_idx(vdev, q);
        virtio_queue_restore_last_avail_idx(vdev, q);
        used = virtio_queue_get_last_avail_idx(vdev, q);
        if ((uint16_t)(told - used) <= virtio_queue_get_num(vdev, q)) {
            virtio_queue_set_last_avail_idx(vdev, q, told);
        }
        virtio_queue_update_used_idx(vdev, q);
    }
    virtio_queue_invalidate_signalled_used(vdev, q);
    if (notify) {
        virtio_notify(vdev, virtio_get_queue(vdev, q));
    }
}

void vhost_user_vm2vm_end(VhostUserVm2vm *v)
{
    Domain payload = { .version = DOMAIN_VERSION, .flags = DOMAIN_NONE };
    int q;

    if (v->domain < 0) {
        return;
    }
    vm2vm_dma_stop(&v->dma);
    close(v->domain);
    v->domain = -1;
    vhost_user_vm2vm_tell(v, SET_VM2VM_DOMAIN, &payload, sizeof(payload), -1,
                          false);
    for (q = 0; q < v->nr_queues; q++) {
        if (is_set_up(v, q)) {
            settle(v->vdev, q, test_bit(q, v->called));
        }
    }
    v->vdev = NULL;
}

int vhost_user_vm2vm_start(struct vhost_dev *dev)
{
    VhostUserVm2vm *v = of(dev);
    int ret;

    /* Memory has changed meanwhile: KVM's domain knows */
    if (dev->vm2vm_started) {
        return 0;
    }
    /* The memory is nobody's to write to, or is another QEMU's by now */
    if (!dev->vdev->vm_running) {
        return -EBUSY;
    }
    if (!v->users) {
        ret = begin(v, dev->vdev);
        if (ret < 0) {
            vhost_user_vm2vm_end(v);
            return ret;
        }
    }
    v->users++;
    dev->vm2vm_started = true;
    return 0;
}

void vhost_user_vm2vm_stop(struct vhost_dev *dev)
{
    VhostUserVm2vm *v = of(dev);

    if (!v || !dev->vm2vm_started) {
        return;
    }
    dev->vm2vm_started = dev->vm2vm_rings = false;
    v->users--;
    if (!v->users) {
        vhost_user_vm2vm_end(v);
    }
}

void vhost_user_vm2vm_closed(struct vhost_dev *dev)
{
    if (dev->vm2vm) {
        vhost_user_vm2vm_end(of(dev));
    }
}

/* As if the VM were stopped: the eventfds, which the back-end has, go, too */
static void stop_lost(void *opaque)
{
    VirtIODevice *vdev = opaque;

    if (DEVICE(vdev)->realized) {
        vdev->vm_running = false;
        virtio_set_status(vdev, vdev->status);
    }
    object_unref(OBJECT(vdev));
}

/* Of a device that does not reconnect, and so does not listen: -fs, -vsock */
static void lost(void *opaque, QEMUChrEvent event)
{
    VhostUserVm2vm *v = opaque;

    if (event == CHR_EVENT_CLOSED && v->domain >= 0) {
        error_report("vhost-user '%s': the back-end is lost, and the device "
                     "until its VM is started again", v->id);
        /* It may have been lost while the device starts, or stops */
        aio_bh_schedule_oneshot(qemu_get_aio_context(), stop_lost,
                                object_ref(OBJECT(v->vdev)));
        vhost_user_vm2vm_end(v);
    }
}

bool vhost_user_vm2vm_negotiate(struct vhost_dev *dev, VhostUserState *user,
                                uint64_t *protocol_features, Error **errp)
{
    const uint64_t bit = 1ULL << VHOST_USER_PROTOCOL_F_VM2VM_DOMAIN;
    uint64_t offered = *protocol_features, carried = 0;
    Error *err = NULL;
    size_t i;

    /* Until it is known to be one it is not treated as one */
    dev->vm2vm = NULL;
    if (user->vm2vm_link) {
        user->vm2vm_link->timed = user->vm2vm == ON_OFF_AUTO_ON;
    }
    if (user->memory_slots == INT_MAX) {
        user->memory_slots = 0;
    }
    *protocol_features &= ~bit;
    if (user->vm2vm == ON_OFF_AUTO_OFF || !(offered & bit)) {
        return true;
    }
    if (!kvm_vm2vm_available(&err) ||
        !virtio_has_feature(offered, VHOST_USER_PROTOCOL_F_REPLY_ACK)) {
        if (user->vm2vm == ON_OFF_AUTO_ON && !err) {
            error_setg(&err, "the back-end does not acknowledge");
        }
        if (user->vm2vm == ON_OFF_AUTO_ON) {
            error_propagate(errp, err);
            return false;
        }
        error_free(err);
        return true;
    }
    for (i = 0; i < ARRAY_SIZE(protocol_bits); i++) {
        carried |= 1ULL << protocol_bits[i];
    }
    *protocol_features = offered & carried;
    dev->vm2vm = vhost_user_vm2vm_get(user);
    of(dev)->timed = true;
    of(dev)->channel_got = 0;
    vhost_user_vm2vm_connected(of(dev));
    if (!dev->vq_index_end) {
        /* Some devices do not say, and then would tell no status */
        dev->vq_index_end = dev->nvqs;
    }
    if (!dev->vq_index && of(dev)->users) {
        /* Of the last connection nothing may be left */
        vhost_user_vm2vm_end(of(dev));
        of(dev)->users = 0;
    }
    if (!user->chr->chr_event) {
        of(dev)->listens = true;
        qemu_chr_fe_set_handlers(user->chr, NULL, NULL, lost, NULL, dev->vm2vm,
                                 NULL, true);
    }
    return true;
}

/* ---- Rings: they are enabled, and have eventfds, once they are set up */

static int tell_call(VhostUserVm2vm *v, int q, int fd)
{
    uint64_t u64 = q | (fd < 0 ? VRING_NOFD : 0);

    set_bit(q, v->called);
    return vhost_user_vm2vm_tell(v, SET_VRING_CALL, &u64, sizeof(u64), fd,
                                 false);
}

static int tell_enable(VhostUserVm2vm *v, int q, bool enable)
{
    struct vhost_vring_state state = { .index = q, .num = enable };
    VirtQueue *vq;
    int ret = 0;

    /* The connection, and with it the run, may have ended meanwhile */
    if (!v->vdev) {
        return -ENOTCONN;
    }
    if (!is_set_up(v, q)) {
        return 0;
    }
    vq = virtio_get_queue(v->vdev, q);
    if (enable && !test_bit(q, v->called)) {
        ret = tell_call(v, q, event_notifier_get_wfd(
                                    virtio_queue_get_guest_notifier(vq)));
    }
    return ret ? ret : vhost_user_vm2vm_tell(v, SET_VRING_ENABLE, &state,
                                             sizeof(state), -1, true);
}

int vhost_user_vm2vm_set_enable(struct vhost_dev *dev, bool enable)
{
    VhostUserVm2vm *v = of(dev);
    int i, q, ret = 0;

    for (i = 0; i < dev->nvqs && !ret; i++) {
        q = dev->vq_index + i;
        if (q >= VHOST_USER_VM2VM_QUEUES) {
            return -EINVAL;
        }
        if (enable) {
            set_bit(q, v->wanted);
        } else {
            clear_bit(q, v->wanted);
        }
        if (dev->vm2vm_rings) {
            ret = tell_enable(v, q, enable);
        }
    }
    return ret;
}

int vhost_user_vm2vm_start_rings(struct vhost_dev *dev)
{
    VhostUserVm2vm *v = of(dev);
    int i, q, ret = 0;

    dev->vm2vm_rings = true;
    for (i = 0; i < dev->nvqs && !ret; i++) {
        q = dev->vq_index + i;
        if (test_bit(q, v->wanted)) {
            ret = tell_enable(v, q, true);
        }
    }
    return ret;
}

bool vhost_user_vm2vm_sends_call(struct vhost_dev *dev,
                                 const struct vhost_vring_file *file)
{
    VhostUserVm2vm *v = of(dev);

    if (!v) {
        return true;
    }
    /* Eventfds are those of a run, and each is told once, or taken back */
    if (!dev->vm2vm_started || file->index >= VHOST_USER_VM2VM_QUEUES ||
        (file->fd >= 0 && test_bit(file->index, v->called))) {
        return false;
    }
    set_bit(file->index, v->called);
    return true;
}

/* The two indices of a packed ring, each with its wrap counter, are in it */
static bool is_told(VirtIODevice *vdev, uint32_t num, int q)
{
    uint32_t size = virtio_queue_get_num(vdev, q);

    return num != UNKNOWN &&
        (!virtio_vdev_has_feature(vdev, VIRTIO_F_RING_PACKED) ||
         ((num & 0x7fff) < size && ((num >> 16) & 0x7fff) < size));
}

void vhost_user_vm2vm_stopped_ring(struct vhost_dev *dev,
                                   struct vhost_vring_state *ring,
                                   uint32_t index)
{
    VirtIODevice *vdev = dev->vdev;

    if (!dev->vm2vm ||
        (ring->index == index && is_told(vdev, ring->num, index))) {
        return;
    }
    ring->index = index;
    if (virtio_vdev_has_feature(vdev, VIRTIO_F_RING_PACKED)) {
        /* Their memory does not tell */
        virtio_error(vdev, "vhost-user: the back-end does not know where in "
                     "queue %" PRIu32 " it stopped", index);
        ring->num = virtio_queue_get_last_avail_idx(vdev, index);
        return;
    }
    virtio_queue_restore_last_avail_idx(vdev, index);
    ring->num = virtio_queue_get_last_avail_idx(vdev, index);
}

void vhost_user_vm2vm_doorbells(struct vhost_dev *dev, VirtIODevice *vdev,
                                bool assign)
{
    int i;

    for (i = 0; i < dev->nvqs; i++) {
        EventNotifier *n = virtio_queue_get_host_notifier(
            virtio_get_queue(vdev, dev->vq_index + i));

        if (!assign) {
            kvm_vm2vm_doorbell_del(n);
        } else if (dev->vm2vm) {
            kvm_vm2vm_doorbell_add(n);
            /* Which QEMU kicks, too, for a driver that does it another way */
            n->peer = vhost_user_vm2vm_peer(dev->vm2vm);
        }
    }
}
