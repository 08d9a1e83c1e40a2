/* SPDX-License-Identifier: GPL-2.0 */
/*
 * SHA-256 (FIPS 180-4) for guest code: no libc, no tables outside this file, and
 * every byte of the data read exactly once, by aligned loads of 8 bytes.
 */
#ifndef SELFTEST_KVM_VM2VM_SHA256_H
#define SELFTEST_KVM_VM2VM_SHA256_H

#include <stddef.h>
#include <linux/compiler.h>
#include <linux/types.h>

#define SHA256_BLOCK	64

/* The bytes of the digest in their usual order, also as words to copy. */
struct sha256_digest {
	union {
		u8 byte[32];
		u64 word[4];
	};
};

struct sha256 {
	u32 h[8];
	u64 bytes;
};

void sha256_init(struct sha256 *s);

/* @data is aligned to 8 bytes, @size a multiple of SHA256_BLOCK. */
void sha256_blocks(struct sha256 *s, const void *data, size_t size);

/* The last, incomplete block: @data aligned to 8 bytes, @size < SHA256_BLOCK. */
void sha256_end(struct sha256 *s, const void *data, size_t size, struct sha256_digest *digest);

void sha256_sum(const void *data, size_t size, struct sha256_digest *digest);

#endif /* SELFTEST_KVM_VM2VM_SHA256_H */
