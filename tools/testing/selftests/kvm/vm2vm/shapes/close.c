// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_shapes_test: an owner and a backend whose descriptors are closed in any order, and
 * what each close leaves.
 */
#include <dirent.h>

#include "shapes.h"

int count_vms(void)
{
	DIR *dir = opendir("/sys/kernel/debug/kvm");
	struct dirent *entry;
	char prefix[16];
	int n = 0;

	if (!dir)
		return -1;
	sprintf(prefix, "%d-", getpid());
	while ((entry = readdir(dir)))
		n += !strncmp(entry->d_name, prefix, strlen(prefix));
	closedir(dir);
	return n;
}

void pair_init(struct pair *p)
{
	node_init(&p->owner, 0);
	node_init(&p->backend, 1);
	p->gen = 0;
}

void pair_fini(struct pair *p)
{
	node_fini(&p->owner);
	node_fini(&p->backend);
}

/* Each page is approved by itself, so that there is something to leak. */
static void pair_start(struct pair *p, bool owner_vcpu)
{
	struct node *o = &p->owner;
	unsigned int i;

	if (owner_vcpu)
		node_create(o);
	else
		node_create_owner(o);
	o->domain = __node_create_domain(o->vm);
	TEST_ASSERT(o->domain >= 0, "KVM_VM2VM_CREATE_DOMAIN: %s", strerror(-o->domain));
	for (i = 0; i < NODE_PAGES; i++)
		vm2vm_map(o->domain, NODE_IOVA + i * 4096, NODE_OWN + i * 4096, 4096, VM2VM_RW);
	node_create(&p->backend);
	node_link(&p->backend, o->domain, 0);
}

static bool pair_owner_alive(struct pair *p)
{
	return p->owner.vm >= 0 || p->owner.vcpu >= 0;
}

static bool pair_backend_alive(struct pair *p)
{
	return p->backend.vm >= 0 || p->backend.vcpu >= 0;
}

/* The descriptor of its vCPU keeps a VM alive, but not its domains. */
static bool pair_owner_shares(struct pair *p)
{
	return p->owner.vm >= 0;
}

static bool pair_approved(struct pair *p)
{
	return pair_owner_shares(p) && p->owner.domain >= 0;
}

/* One page, by the backend's guest: the owner's data both ways, or a hole. */
static void pair_check_window(struct pair *p, unsigned int page)
{
	uint64_t *word = p->owner.own[page], window = NODE_WINDOW(0) + page * 4096;
	uint64_t tag = NODE_TAG(0, page, ++p->gen), val;
	bool approved = pair_approved(p);

	WRITE_ONCE(word[NODE_WORD_OWNER], tag);
	val = node_read(&p->backend, window);
	TEST_ASSERT(val == (approved ? tag : NODE_HOLE), "%s: the guest reads 0x%lx, not 0x%lx",
		    approved ? "approved" : "revoked", val, tag);

	WRITE_ONCE(word[NODE_WORD_FROM(1)], NODE_CANARY);
	tag = NODE_TAG(1, page, p->gen);
	node_write(&p->backend, window + NODE_WORD_FROM(1) * 8, tag);
	val = READ_ONCE(word[NODE_WORD_FROM(1)]);
	TEST_ASSERT(val == (approved ? tag : NODE_CANARY), "%s: the owner has 0x%lx",
		    approved ? "approved" : "revoked", val);
}

/* A VM's own memory, by its guest. */
static void pair_check_own(struct pair *p, struct node *n)
{
	uint64_t tag = NODE_TAG(n->ctl->id, NODE_PAGES - 1, ++p->gen);

	node_write(n, NODE_OWN + NODE_SIZE - 8, tag);
	TEST_ASSERT(node_read(n, NODE_OWN + NODE_SIZE - 8) == tag &&
		    n->own[NODE_PAGES - 1][511] == tag, "own memory");
}

static void pair_check_domain(struct pair *p)
{
	int expected = pair_owner_shares(p) ? 0 : -ENODEV, r;
	uint64_t unmapped;

	r = __vm2vm_map(p->owner.domain, NODE_IOVA + NODE_SIZE, NODE_OWN, 4096, VM2VM_RW);
	TEST_ASSERT(r == expected, "MAP: %s", strerror(-r));
	r = __vm2vm_unmap(p->owner.domain, NODE_IOVA + NODE_SIZE, 4096, &unmapped);
	TEST_ASSERT(r == expected, "UNMAP: %s", strerror(-r));
	TEST_ASSERT(r || unmapped == 4096, "UNMAP: %lu bytes", unmapped);
}

/* The backend may get another window, if the domain has not ended. */
static void pair_check_link(struct pair *p)
{
	int r = __node_link(p->backend.vm, p->owner.domain, 1, NODE_IOVA);

	if (p->owner.domain < 0)
		TEST_ASSERT(r == -EBADF, "LINK without a domain: %s", strerror(-r));
	else if (!pair_owner_shares(p))
		TEST_ASSERT(r == -ENODEV, "LINK of an ended domain: %s", strerror(-r));
	else
		TEST_ASSERT(!r, "LINK: %s", strerror(-r));
	if (!r)
		node_unlink(&p->backend, 1);
	else
		TEST_ASSERT(__node_unlink(p->backend.vm, 1) == -ENOENT, "no second window");
}

/* What is left behaves as the documentation says. */
static void pair_check(struct pair *p)
{
	int vms = count_vms(), fd;
	unsigned int i;

	TEST_ASSERT(vms < 0 || vms == pair_owner_alive(p) + pair_backend_alive(p),
		    "there are %d VMs", vms);
	if (p->backend.vcpu >= 0) {
		for (i = 0; i < NODE_PAGES; i += NODE_PAGES - 1)
			pair_check_window(p, i);
		pair_check_own(p, &p->backend);
	}
	if (p->owner.vcpu >= 0)
		pair_check_own(p, &p->owner);
	if (p->owner.domain >= 0)
		pair_check_domain(p);
	if (p->backend.vm >= 0)
		pair_check_link(p);
	if (p->owner.vm >= 0) {
		fd = __node_create_domain(p->owner.vm);
		TEST_ASSERT(fd >= 0, "CREATE_DOMAIN: %s", strerror(-fd));
		close(fd);
	}
}

static void pair_close(struct pair *p, enum part part)
{
	switch (part) {
	case DOMAIN:
		node_close(&p->owner.domain);
		break;
	case OWNER_VM:
		node_close(&p->owner.vm);
		break;
	case OWNER_VCPU:
		node_close_vcpu(&p->owner);
		break;
	case BACKEND_VM:
		node_close(&p->backend.vm);
		break;
	case BACKEND_VCPU:
		node_close_vcpu(&p->backend);
		break;
	default:
		break;
	}
}

static void pair_free_memory(struct pair *p)
{
	/* What is left are its memory and no descriptors. */
	node_destroy(&p->owner);
	node_destroy(&p->backend);
}

void close_in_order(unsigned int order, unsigned int nr_parts)
{
	unsigned int what[NR_PARTS], i;
	struct pair p;

	permutation(order, nr_parts, what);
	pair_init(&p);
	pair_start(&p, nr_parts == NR_PARTS);
	for (i = 0; i < NODE_PAGES; i++)
		pair_check_window(&p, i);
	pair_check(&p);
	for (i = 0; i < nr_parts; i++) {
		pair_close(&p, what[i]);
		pair_check(&p);
	}
	pair_free_memory(&p);
	pair_fini(&p);
}

void cycle(struct pair *p, unsigned int n)
{
	unsigned int what[NR_PARTS], nr = n % 2 ? NR_PARTS : NR_PARTS_MEMORY_OWNER, i;

	permutation(n / 2 % factorial(nr), nr, what);
	pair_start(p, nr == NR_PARTS);
	node_link(&p->backend, p->owner.domain, 1);
	for (i = n % 2; i < NODE_PAGES; i += 3)
		pair_check_window(p, i);
	if (n % 3 == 0)
		vm2vm_unmap(p->owner.domain, NODE_IOVA, NODE_SIZE / 2);
	if (n % 5 == 0)
		node_unlink(&p->backend, 1);
	for (i = 0; i < nr; i++)
		pair_close(p, what[i]);
	pair_free_memory(p);
}

/* The per-CPU memory of the kernel, in bytes. */
static long percpu_memory(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	long kib = 0, val;
	char line[128];

	TEST_ASSERT(f, "/proc/meminfo: %s", strerror(errno));
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Percpu: %ld", &val) == 1)
			kib = val;
	fclose(f);
	return kib * 1024;
}

long kernel_memory(void)
{
	static const char * const names[] = {
		"kmalloc-", "maple_node", "kvm_", "x86_emulator", "pte_list_desc", "filp",
	};
	FILE *f = fopen("/proc/slabinfo", "r");
	long sum = 0, active, all, size;
	char line[256], name[64];
	unsigned int i;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %ld %ld %ld", name, &active, &all, &size) != 4)
			continue;
		for (i = 0; i < ARRAY_SIZE(names); i++)
			if (!strncmp(name, names[i], strlen(names[i])))
				sum += active * size;
	}
	fclose(f);
	return sum + percpu_memory();
}
