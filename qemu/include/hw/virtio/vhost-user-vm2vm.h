/*
 * vhost-user: a back-end that is another VM
 *
 * It gets a domain of KVM in place of the memory. hw/virtio/vhost-user.c,
 * vhost.c and the devices call what is here; without a back-end that knows of
 * domains none of it does anything.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_USER_VM2VM_H
#define HW_VIRTIO_VHOST_USER_VM2VM_H

#include "hw/virtio/vhost.h"
#include "hw/virtio/vhost-user.h"
#include "io/channel.h"
#include "qapi/error.h"

/* Properties of whoever has a VhostUserState */
#define DEFINE_PROP_VM2VM(_s, _f) \
    DEFINE_PROP_ON_OFF_AUTO("vm2vm", _s, _f.vm2vm, ON_OFF_AUTO_AUTO)
#define DEFINE_PROP_VM2VM_BYPASS(_s, _f) \
    DEFINE_PROP_BOOL("vm2vm-bypass", _s, _f.vm2vm_bypass, false)

/* A device that lost its back-end is not @dev->started, but is to be stopped */
static inline bool vhost_user_vm2vm_runs(struct vhost_dev *dev, bool started)
{
    return vhost_dev_is_started(dev) || (dev->vm2vm && started);
}

#if defined(CONFIG_LINUX) && defined(CONFIG_VHOST_USER)

/* ---- The socket: as qemu_chr_fe_read_all(), _write_all() and _get_msgfd() */

int vhost_user_vm2vm_read(VhostUserState *user, void *buf, int size);
int vhost_user_vm2vm_write(VhostUserState *user, const void *buf, int size,
                           const int *fds, int nr_fds);
int vhost_user_vm2vm_get_msgfd(VhostUserState *user);
/* The channel by which the back-end says something by itself is made */
void vhost_user_vm2vm_channel_init(struct vhost_dev *dev, QIOChannel *ioc);
/* What it says; false: close the channel */
bool vhost_user_vm2vm_channel(struct vhost_dev *dev, QIOChannel *ioc);
/* Is this memory for requests in flight? If not it is closed. */
bool vhost_user_vm2vm_takes_inflight(struct vhost_dev *dev, int fd,
                                     uint64_t size, uint64_t offset);

/* ---- The connection */

void vhost_user_vm2vm_cleanup(VhostUserState *user);
/* What is wrong with a back-end has been said: the next ones are the same */
bool vhost_user_vm2vm_quiet(VhostUserState *user);
/* Say so, or not. Takes @err. */
void vhost_user_vm2vm_report(VhostUserState *user, Error *err);
/*
 * Take from the protocol features that the back-end offers those to be used.
 * From then on @dev->vm2vm is set, if it is one with domains.
 */
bool vhost_user_vm2vm_negotiate(struct vhost_dev *dev, VhostUserState *user,
                                uint64_t *protocol_features, Error **errp);
/* Is what was negotiated what the user wants? */
bool vhost_user_vm2vm_check(struct vhost_dev *dev, VhostUserState *user,
                            Error **errp);
/* Those of the back-end's features that can be offered to a driver */
uint64_t vhost_user_vm2vm_features(struct vhost_dev *dev, uint64_t features);

/* As a device with these properties offers @features */
uint64_t vhost_user_vm2vm_transport(struct vhost_dev *dev, uint64_t requested,
                                    uint64_t features);

/* ---- A device whose back-end may come later, as vm2vm=on */

bool vhost_user_vm2vm_patient(VhostUserState *user);
bool vhost_user_vm2vm_absent(struct vhost_dev *dev, VhostUserState *user);
/* What is offered meanwhile; @bits, if any, are those for a back-end to have */
uint64_t vhost_user_vm2vm_absent_features(VhostUserState *user,
                                          const int *bits, uint64_t requested);
/* It has come, or the status becomes @status: offer what there is */
void vhost_user_vm2vm_refresh(VhostUserState *user, VirtIODevice *vdev,
                              uint8_t status);

/* ---- A run of the device. All do nothing if @dev->vm2vm is not set. */

/* In place of the memory table */
int vhost_user_vm2vm_start(struct vhost_dev *dev);
/* The rings are set up: enable those that are to be */
int vhost_user_vm2vm_start_rings(struct vhost_dev *dev);
int vhost_user_vm2vm_set_enable(struct vhost_dev *dev, bool enable);
/* Is this eventfd to be sent now? */
bool vhost_user_vm2vm_sends_call(struct vhost_dev *dev,
                                 const struct vhost_vring_file *file);
/* What the back-end says where it stopped is checked */
void vhost_user_vm2vm_stopped_ring(struct vhost_dev *dev,
                                   struct vhost_vring_state *ring,
                                   uint32_t index);
/* Nothing of this device is in the run any more: ends it with the last one */
void vhost_user_vm2vm_stop(struct vhost_dev *dev);
/* The connection is lost: ends the run, whose device is stopped later */
void vhost_user_vm2vm_closed(struct vhost_dev *dev);
/* KVM is to ring the other VM at once; in a transaction of memory regions */
void vhost_user_vm2vm_doorbells(struct vhost_dev *dev, VirtIODevice *vdev,
                                bool assign);

#else

static inline int vhost_user_vm2vm_read(VhostUserState *user, void *buf,
                                        int size)
{
    return qemu_chr_fe_read_all(user->chr, buf, size);
}

static inline int vhost_user_vm2vm_write(VhostUserState *user, const void *buf,
                                         int size, const int *fds, int nr_fds)
{
    return qemu_chr_fe_write_all(user->chr, buf, size);
}

static inline int vhost_user_vm2vm_get_msgfd(VhostUserState *user)
{
    return qemu_chr_fe_get_msgfd(user->chr);
}

static inline void vhost_user_vm2vm_channel_init(struct vhost_dev *dev,
                                                 QIOChannel *ioc)
{
}

static inline bool vhost_user_vm2vm_channel(struct vhost_dev *dev,
                                            QIOChannel *ioc)
{
    return false;
}

static inline bool vhost_user_vm2vm_takes_inflight(struct vhost_dev *dev,
                                                   int fd, uint64_t size,
                                                   uint64_t offset)
{
    return true;
}

static inline void vhost_user_vm2vm_cleanup(VhostUserState *user)
{
}

static inline bool vhost_user_vm2vm_quiet(VhostUserState *user)
{
    return false;
}

static inline void vhost_user_vm2vm_report(VhostUserState *user, Error *err)
{
    error_report_err(err);
}

static inline bool vhost_user_vm2vm_negotiate(struct vhost_dev *dev,
                                              VhostUserState *user,
                                              uint64_t *protocol_features,
                                              Error **errp)
{
    *protocol_features &= ~(1ULL << VHOST_USER_PROTOCOL_F_VM2VM_DOMAIN);
    return true;
}

static inline bool vhost_user_vm2vm_check(struct vhost_dev *dev,
                                          VhostUserState *user, Error **errp)
{
    return true;
}

static inline uint64_t vhost_user_vm2vm_features(struct vhost_dev *dev,
                                                 uint64_t features)
{
    return features;
}

static inline uint64_t vhost_user_vm2vm_transport(struct vhost_dev *dev,
                                                  uint64_t requested,
                                                  uint64_t features)
{
    return features;
}

static inline bool vhost_user_vm2vm_patient(VhostUserState *user)
{
    return false;
}

static inline bool vhost_user_vm2vm_absent(struct vhost_dev *dev,
                                           VhostUserState *user)
{
    return false;
}

static inline uint64_t
vhost_user_vm2vm_absent_features(VhostUserState *user, const int *bits,
                                 uint64_t requested)
{
    return requested;
}

static inline void vhost_user_vm2vm_refresh(VhostUserState *user,
                                            VirtIODevice *vdev, uint8_t status)
{
}

static inline int vhost_user_vm2vm_start(struct vhost_dev *dev)
{
    return 0;
}

static inline int vhost_user_vm2vm_start_rings(struct vhost_dev *dev)
{
    return 0;
}

static inline int vhost_user_vm2vm_set_enable(struct vhost_dev *dev,
                                              bool enable)
{
    return 0;
}

static inline bool
vhost_user_vm2vm_sends_call(struct vhost_dev *dev,
                            const struct vhost_vring_file *file)
{
    return true;
}

static inline void
vhost_user_vm2vm_stopped_ring(struct vhost_dev *dev,
                              struct vhost_vring_state *ring, uint32_t index)
{
}

static inline void vhost_user_vm2vm_stop(struct vhost_dev *dev)
{
}

static inline void vhost_user_vm2vm_closed(struct vhost_dev *dev)
{
}

static inline void vhost_user_vm2vm_doorbells(struct vhost_dev *dev,
                                              VirtIODevice *vdev, bool assign)
{
}

#endif
#endif
