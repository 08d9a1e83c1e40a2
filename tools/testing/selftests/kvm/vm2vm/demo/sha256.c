// SPDX-License-Identifier: GPL-2.0
/*
 * SHA-256 for guest code: what sha256.h declares.
 */
#include "sha256.h"

static const u32 sha256_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
	0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
	0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
	0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
	0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
	0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
	0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
	0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static u32 sha256_ror(u32 x, int n)
{
	return x >> n | x << (32 - n);
}

/*
 * One round changes two of the eight working variables.  The caller rotates the
 * names instead of the values.
 */
static __always_inline void sha256_round(u32 a, u32 b, u32 c, u32 *d, u32 e, u32 f, u32 g, u32 *h,
					 u32 kw)
{
	u32 t = *h + kw + (g ^ (e & (f ^ g))) +
		     (sha256_ror(e, 6) ^ sha256_ror(e, 11) ^ sha256_ror(e, 25));

	*d += t;
	*h = t + ((a & b) | (c & (a | b))) +
	     (sha256_ror(a, 2) ^ sha256_ror(a, 13) ^ sha256_ror(a, 22));
}

static void sha256_block(struct sha256 *s, const u64 *data)
{
	u32 a = s->h[0], b = s->h[1], c = s->h[2], d = s->h[3];
	u32 e = s->h[4], f = s->h[5], g = s->h[6], h = s->h[7];
	u32 w[64];
	int i;

	for (i = 0; i < 8; i++) {
		u64 x = __builtin_bswap64(READ_ONCE(data[i]));

		w[2 * i] = x >> 32;
		w[2 * i + 1] = x;
	}
	for (i = 16; i < 64; i++) {
		u32 x = w[i - 15], y = w[i - 2];

		w[i] = w[i - 16] + w[i - 7] +
		       (sha256_ror(x, 7) ^ sha256_ror(x, 18) ^ (x >> 3)) +
		       (sha256_ror(y, 17) ^ sha256_ror(y, 19) ^ (y >> 10));
	}

	for (i = 0; i < 64; i += 8) {
		const u32 *k = &sha256_k[i];

		sha256_round(a, b, c, &d, e, f, g, &h, k[0] + w[i]);
		sha256_round(h, a, b, &c, d, e, f, &g, k[1] + w[i + 1]);
		sha256_round(g, h, a, &b, c, d, e, &f, k[2] + w[i + 2]);
		sha256_round(f, g, h, &a, b, c, d, &e, k[3] + w[i + 3]);
		sha256_round(e, f, g, &h, a, b, c, &d, k[4] + w[i + 4]);
		sha256_round(d, e, f, &g, h, a, b, &c, k[5] + w[i + 5]);
		sha256_round(c, d, e, &f, g, h, a, &b, k[6] + w[i + 6]);
		sha256_round(b, c, d, &e, f, g, h, &a, k[7] + w[i + 7]);
	}

	s->h[0] += a;
	s->h[1] += b;
	s->h[2] += c;
	s->h[3] += d;
	s->h[4] += e;
	s->h[5] += f;
	s->h[6] += g;
	s->h[7] += h;
}

void sha256_init(struct sha256 *s)
{
	static const u32 h[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	};
	int i;

	for (i = 0; i < 8; i++)
		s->h[i] = h[i];
	s->bytes = 0;
}

void sha256_blocks(struct sha256 *s, const void *data, size_t size)
{
	size_t i;

	for (i = 0; i < size; i += SHA256_BLOCK)
		sha256_block(s, data + i);
	s->bytes += size;
}

void sha256_end(struct sha256 *s, const void *data, size_t size, struct sha256_digest *digest)
{
	u64 bits = (s->bytes + size) * 8;
	u64 tail[2 * SHA256_BLOCK / 8] = {};
	size_t nr = size + 9 > SHA256_BLOCK ? 2 : 1;
	const u64 *word = data;
	size_t i;

	for (i = 0; i < size / 8; i++)
		tail[i] = READ_ONCE(word[i]);
	for (i *= 8; i < size; i++)
		((u8 *)tail)[i] = READ_ONCE(((const u8 *)data)[i]);
	((u8 *)tail)[size] = 0x80;
	tail[nr * 8 - 1] = __builtin_bswap64(bits);

	for (i = 0; i < nr; i++)
		sha256_block(s, tail + i * 8);
	for (i = 0; i < 4; i++)
		digest->word[i] = __builtin_bswap64((u64)s->h[2 * i] << 32 |
						    s->h[2 * i + 1]);
}

void sha256_sum(const void *data, size_t size, struct sha256_digest *digest)
{
	size_t whole = size - size % SHA256_BLOCK;
	struct sha256 s;

	sha256_init(&s);
	sha256_blocks(&s, data, whole);
	sha256_end(&s, data + whole, size - whole, digest);
}
