/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A file whose server can be told not to answer, for the vm2vm selftests: FUSE, with
 * the server in a process of its own.
 */
#ifndef SELFTEST_KVM_VM2VM_FUSE_H
#define SELFTEST_KVM_VM2VM_FUSE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FUSE_PAGES	128
#define FUSE_STUCK	8		/* the first page whose reads are kept waiting */

/* The first word of a page of the file; the rest is 0. */
#define FUSE_VALUE(page)	(0x5566778899aabb00ull + (page))

struct fuse_shared;

/**
 * struct fuse_server - a server, as who started it sees it
 * @pid: its process
 * @file: descriptor of its file, which may be written
 * @shared: what it is told, and tells
 */
struct fuse_server {
	pid_t pid;
	int file;
	struct fuse_shared *shared;
};

/* Start one; false if the kernel has no FUSE. */
bool fuse_start(struct fuse_server *s);

/* How many reads and writes it keeps waiting. */
unsigned int fuse_waiting(struct fuse_server *s);

/* Wait until it keeps @nr waiting, at the least. */
void fuse_wait_for(struct fuse_server *s, unsigned int nr);

/* It keeps writes waiting from now on. */
void fuse_keep_writes(struct fuse_server *s);

/* It answers everything from now on. */
void fuse_release(struct fuse_server *s);

/* Kill it: what waits for it ends in errors. */
void fuse_kill(struct fuse_server *s);

#endif /* SELFTEST_KVM_VM2VM_FUSE_H */
