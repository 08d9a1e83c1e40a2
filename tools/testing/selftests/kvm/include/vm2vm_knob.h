/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Numbers and words that the kernel has in files of /proc, /sys and the like, to be
 * read and written.
 */
#ifndef SELFTEST_KVM_VM2VM_KNOB_H
#define SELFTEST_KVM_VM2VM_KNOB_H

#include <stdbool.h>

/* The number in a file; -1: there is none. */
long knob_read(const char *path);

/* Whether a word is in a file; only the beginning of that is looked at. */
bool knob_has(const char *path, const char *word);

/* False: it does not take it. */
bool knob_write(const char *path, const char *val);

bool knob_write_long(const char *path, long val);

#endif /* SELFTEST_KVM_VM2VM_KNOB_H */
