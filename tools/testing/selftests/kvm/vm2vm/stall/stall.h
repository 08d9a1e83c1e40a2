/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_stall_test: the processes of the test.  Each is a VMM that does what it is told over
 * a socket, and the test sees to it that each answers in time.
 */
#ifndef SELFTEST_KVM_VM2VM_STALL_STALL_H
#define SELFTEST_KVM_VM2VM_STALL_STALL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * What must not take long is given this many seconds.  A slow machine needs a
 * small part of it, what waits for a stalled owner would need for ever.
 */
#define LIMIT		60

#define PAGES		64
#define STALLED		32		/* the first page that the owner does not answer for */
#define VALUE(page)	(0x1122334455667700ull + (page))
#define HOLE		(~0ull)

enum stall_cmd {
	/* To an owner: its memory, a stall, and changes of its mappings. */
	OWNER_SHARE,
	OWNER_STALL,
	OWNER_SERVE,
	OWNER_UNMAP,
	OWNER_MAP,
	OWNER_MEMSLOT,
	OWNER_CLOSE,
	OWNER_TOUCH,
	OWNER_DISCARD,
	OWNER_WRITERS,
	OWNER_HOLD,
	OWNER_RELEASE,
	OWNER_FILE,
	OWNER_DIRTY,
	OWNER_ABSENT,
	OWNER_POISON,
	OWNER_VM,
	/* To a backend: its window, and its vCPU. */
	BACKEND_LINK,
	BACKEND_UNLINK,
	BACKEND_READ,
	BACKEND_START,
	BACKEND_RUNS,
	BACKEND_INTERRUPT,
	BACKEND_CONTINUE,
	BACKEND_WAIT,
	BACKEND_MEMSLOTS,
	BACKEND_SPEED,
	BACKEND_WRITE,
	BACKEND_PREFAULT,
	BACKEND_STAT,
	BACKEND_ASKS,
};

/* Argument of OWNER_SHARE. */
enum owner_memory { OWNER_ANONYMOUS, OWNER_SHMEM, OWNER_HUGETLB };

/* Arguments of BACKEND_STAT. */
enum stall_stat { STAT_HOLES, STAT_NOPAGE, STAT_NOMEM, STAT_POISON };

/* A request and its answer: @val, and perhaps a descriptor. */
struct stall_msg {
	enum stall_cmd cmd;
	uint64_t arg;
	int64_t val;
};

/* A process of the test, as the test sees it. */
struct actor {
	pid_t pid;
	int pidfd;
	int sock;
	int fd;			/* that came with the last answer, or -1 */
};

/* Since an arbitrary time. */
uint64_t now_ms(void);

/* Wait until there is something to read, or for so long; false if there is not. */
bool readable(int fd, unsigned int seconds);

/* Whether a domain, whose owner is dead, has ended, or does in time. */
bool ends_soon(int domain);

/* @fd -1: no descriptor goes along. */
void stall_send(int sock, const struct stall_msg *msg, int fd);

/* False if the other end is gone. */
bool stall_receive(int sock, struct stall_msg *msg, int *fd);

/* Start a process that does what @run does; it does not outlive the test. */
void actor_start(struct actor *a, void (*run)(int sock));

/* Have @a do something, and give it @fd, unless that is -1.  It has to be quick. */
int64_t actor_do_fd(struct actor *a, enum stall_cmd cmd, uint64_t arg, int fd);

/* Likewise, without a descriptor. */
int64_t actor_do(struct actor *a, enum stall_cmd cmd, uint64_t arg);

/* Kill @a, unless that was done: it has to be gone soon. */
void actor_kill(struct actor *a);

void start_thread(pthread_t *thread, void *(*run)(void *arg), void *arg);

/* What the processes of the test do, with their end of the socket. */
void owner_process(int sock);
void backend_process(int sock);

/*
 * Give what @page of the owner that has @uffd is in, at @addr, its contents: a page of @size,
 * which begins with page STALLED if it is a huge one.
 */
void answer(int uffd, uint64_t addr, unsigned int page, size_t size);

#endif /* SELFTEST_KVM_VM2VM_STALL_STALL_H */
