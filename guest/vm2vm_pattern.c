// SPDX-License-Identifier: GPL-2.0-only
/*
 * A pattern that tells where it was written, and by whom
 */
#include "vm2vm.h"

static uint64_t pattern64(uint64_t seed, uint64_t iova)
{
	uint64_t v = seed * 0x9e3779b97f4a7c15ULL + iova / 8;

	/* The finalizer of splitmix64 */
	v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9ULL;
	v = (v ^ (v >> 27)) * 0x94d049bb133111ebULL;
	return v ^ (v >> 31);
}

void pattern(uint64_t seed, uint64_t iova, uint8_t *to, uint64_t len)
{
	uint64_t i;

	for (i = 0; i < len; i++)
		to[i] = pattern64(seed, iova + i) >> (8 * ((iova + i) % 8));
}
