// SPDX-License-Identifier: GPL-2.0-only
/*
 * hole FILE OFFSET: instructions of several kinds on memory where nothing is, as in the window of
 * a vm2vm device.  Each has to complete, and to read all-ones.
 */
#include <fcntl.h>
#include <immintrin.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *current = "nothing";

static void bad(int signal)
{
	printf("not ok %s: signal %d\n", current, signal);
	fflush(stdout);
	_exit(1);
}

static void expect(const char *what, int good)
{
	printf("%sok %s\n", good ? "" : "not ", what);
	if (!good)
		exit(1);
}

#define TRY(name, ...)						\
	do {							\
		current = name;					\
		memset(out, 0, sizeof(out));			\
		__VA_ARGS__;					\
		expect(name, out[0] == ~0ULL && out[1] == ~0ULL);	\
	} while (0)

#define XMM(code) __asm__ __volatile__("pxor %%xmm0, %%xmm0; " code "; movdqu %%xmm0, %0" \
				       : "=m"(out) : "r"(p) : "xmm0", "memory")

static void read_kinds(uint8_t *p)
{
	uint64_t out[2], crc = 0, bits;
	void *to = out, *from = p;
	long n = 16;

	TRY("mov", out[0] = *(volatile uint64_t *)p, out[1] = *(volatile uint64_t *)(p + 8));
	TRY("movdqu", XMM("movdqu (%1), %%xmm0"));
	TRY("pxor", XMM("pxor (%1), %%xmm0"));
	TRY("por", XMM("por (%1), %%xmm0"));
	TRY("paddb", XMM("paddb (%1), %%xmm0"));
	TRY("movntdqa", XMM("movntdqa (%1), %%xmm0"));
	TRY("rep movsb", __asm__ __volatile__("rep movsb" : "+D"(to), "+S"(from), "+c"(n)
					      : : "memory"));
	TRY("memcpy", memcpy(out, p, sizeof(out)));
	current = "crc32q";
	__asm__ __volatile__("crc32q (%1), %0" : "+r"(crc) : "r"(p) : "memory");
	expect(current, crc);
	current = "popcnt";
	__asm__ __volatile__("popcntq (%1), %0" : "=r"(bits) : "r"(p) : "memory", "cc");
	expect(current, bits == 64);
}

static void write_kinds(uint8_t *p)
{
	current = "movdqu to it";
	__asm__ __volatile__("pxor %%xmm0, %%xmm0; movdqu %%xmm0, (%0)" : : "r"(p) : "xmm0", "memory");
	expect(current, 1);
	current = "memset";
	memset(p, 0x5a, 64);
	expect(current, 1);
	current = "lock xadd";
	__atomic_fetch_add((uint64_t *)p, 1, __ATOMIC_SEQ_CST);
	expect(current, 1);
}

int main(int argc, char **argv)
{
	int fd = argc == 3 ? open(argv[1], O_RDWR) : -1;
	uint8_t *p;

	if (fd < 0) {
		fprintf(stderr, "usage: hole FILE OFFSET\n");
		return 2;
	}
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, strtoull(argv[2], NULL, 0));
	if (p == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	signal(SIGILL, bad);
	signal(SIGBUS, bad);
	signal(SIGSEGV, bad);
	read_kinds(p);
	write_kinds(p);
	return 0;
}
