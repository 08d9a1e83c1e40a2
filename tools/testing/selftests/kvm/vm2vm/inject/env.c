// SPDX-License-Identifier: GPL-2.0
/* vm2vm_inject_test: what the calls are about; see env.h. */
#include <sys/mman.h>

#include "env.h"

void env_init(struct env *e)
{
	unsigned int i;

	e->memfd = -1;
	peer_init(&e->p, PEER_SIZE_2M);
	for (i = 0; i < PAGES; i++)
		*peer_word(&e->p, i * 4096) = VALUE + i;
}

void env_free(struct env *e)
{
	if (e->memfd >= 0)
		close(e->memfd);
	if (e->p.backend)
		peer_free(&e->p);
}

void expect_word(struct env *e, uint64_t offset, uint64_t val)
{
	unsigned int mmio = e->p.mmio;
	uint64_t got = peer_read(&e->p, offset);

	TEST_ASSERT(got == val && e->p.mmio == mmio, "window + 0x%lx is 0x%lx, not 0x%lx; %u MMIO",
		    offset, got, val, e->p.mmio - mmio);
}

void expect_hole(struct env *e, uint64_t offset)
{
	unsigned int mmio = e->p.mmio;
	uint64_t got = peer_read(&e->p, offset);

	TEST_ASSERT(got == HOLE && e->p.mmio == mmio + 1, "window + 0x%lx is 0x%lx, not a hole",
		    offset, got);
}

void shake(struct env *e)
{
	TEST_ASSERT(!mprotect(e->p.mem, e->p.size, PROT_READ) &&
		    !mprotect(e->p.mem, e->p.size, PROT_READ | PROT_WRITE), "mprotect");
}

void set_cmd(struct env *e, enum peer_op op, uint64_t val, uint64_t count)
{
	struct peer_cmd *cmd = addr_gva2hva(e->p.backend, (uintptr_t)&peer_cmd);

	*cmd = (struct peer_cmd) {
		.op = op, .gva = PEER_WINDOW + e->offset, .val = val, .count = count,
		.stride = PEER_SIZE_2M,
	};
}
