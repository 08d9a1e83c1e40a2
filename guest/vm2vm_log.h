/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a disk's back-end did, for tests that kill it
 */
#ifndef VM2VM_LOG_H
#define VM2VM_LOG_H

#include <stddef.h>
#include <stdint.h>

/* A file, to the end of which it is written; or NULL, for no log */
void log_open(const char *path);
/*
 * A request is about to be done: which it is ('w': a write, 'r': again, after one that was
 * killed), and what it begins with.  When it returns it survives this program.
 */
void log_request(char what, uint32_t queue, uint64_t counter, uint64_t sector, size_t len,
		 const uint8_t *data);

#endif /* VM2VM_LOG_H */
