/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of the program vm2vm have in common, besides the device
 */
#ifndef VM2VM_H
#define VM2VM_H

#include <stdbool.h>
#include <stdint.h>

/* A pattern that tells where it was written, and by whom */
void pattern(uint64_t seed, uint64_t iova, uint8_t *to, uint64_t len);

/* Commands; they return the exit status */
int cmd_list(bool json);
int cmd_info(bool json);
int cmd_queue(uint32_t index);
int cmd_rng(uint64_t seconds, uint64_t max, bool seeded, uint64_t seed);
/* 0 pairs: as many as there can be */
int cmd_net(const char *tap, unsigned int pairs, uint64_t seconds);
int cmd_vhost_user(const char *path, uint64_t seconds);
int cmd_test_net(const char *tap, unsigned int pairs, uint64_t seconds, bool late);
int cmd_test_blk(const char *path, unsigned int queues, uint64_t seconds, bool shuffle,
		 const char *log);

#endif /* VM2VM_H */
