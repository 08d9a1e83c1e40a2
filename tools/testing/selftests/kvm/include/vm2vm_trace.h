/* SPDX-License-Identifier: GPL-2.0 */
/* What the kernel's tracepoints say.  @events are those of a directory of its events/. */
#ifndef SELFTEST_KVM_VM2VM_TRACE_H
#define SELFTEST_KVM_VM2VM_TRACE_H

#include <stdbool.h>

/* Trace @events from now on; false if this kernel cannot. */
bool trace_start(const char *events);

/* Do so no longer.  Returns what was traced, which is to be freed. */
char *trace_stop(const char *events);

#endif /* SELFTEST_KVM_VM2VM_TRACE_H */
