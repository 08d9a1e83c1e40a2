// SPDX-License-Identifier: GPL-2.0-only
/*
 * The backend's side of a link: it registers as a device that has one queue, of which the
 * doorbells are used, and finds the region at the addresses that the owner has told
 */
#include <stdio.h>
#include <stdlib.h>
#include <linux/virtio_config.h>

#include "../vm2vm_backend.h"
#include "../vm2vm_dev.h"
#include "link.h"
#include "region.h"

/* A network card has two queues for each pair, of which it says how many */
#define QUEUES	32

static void served_start(struct backend *b, uint32_t q)
{
	uint64_t at = b->rings[0].desc;
	struct link *l = b->data;
	struct region_card card;

	if (q)
		return;
	if (at % REGION_PAGE || !in_window(at, sizeof(card))) {
		fprintf(stderr, "VM %u: its page is not where it can be\n", l->vm);
		return;
	}
	window_read(at, &card, sizeof(card));
	if (card.magic != REGION_CARD_MAGIC) {
		fprintf(stderr, "VM %u: no vm2vm-region drives its device\n", l->vm);
		return;
	}
	if (card.size && (card.region % REGION_PAGE || !in_window(card.region, card.size))) {
		fprintf(stderr, "VM %u: the region, 0x%llx+0x%llx, is not in the window\n", l->vm,
			(unsigned long long)card.region, (unsigned long long)card.size);
		return;
	}
	pthread_mutex_lock(&region_lock);
	l->size = card.size;
	l->region = card.size ? window(card.region) : NULL;
	l->bell_in = b->kicks[0];
	l->bell_out = (volatile uint32_t *)(dev.regs + dev.doorbells);
	l->runs++;
	pthread_mutex_unlock(&region_lock);
	links_changed();
}

static void served_stop(struct backend *b, uint32_t q, bool drain)
{
	struct link *l = b->data;

	if (q)
		return;
	pthread_mutex_lock(&region_lock);
	l->region = NULL;
	l->bell_out = NULL;
	pthread_mutex_unlock(&region_lock);
	links_changed();
}

/* Kicks come by an eventfd for which the main loop waits */
static const struct backend_ops served_ops = {
	.start = served_start,
	.stop = served_stop,
};

static void *serve(void *data)
{
	struct backend *b = calloc(1, sizeof(*b));
	struct link *l = data;

	if (!b)
		die("no memory");
	find_device(l->name, 0);
	open_device();
	b->ops = &served_ops;
	b->data = l;
	b->nr_queues = dev.nr_queues > QUEUES ? QUEUES : dev.nr_queues;
	b->features = 1ULL << VIRTIO_F_VERSION_1;
	backend_run(b, -1);
	return NULL;
}

void link_serve(struct link *l)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, serve, l))
		die("no thread for %s", l->name);
	pthread_detach(thread);
}
