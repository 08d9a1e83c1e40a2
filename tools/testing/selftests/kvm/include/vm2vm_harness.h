/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kselftest_harness.h for programs of several files, which it is not made for: it has
 * functions and variables in it.  Here each file has the functions for itself, and all
 * share the variables, so that the tests of all files are in one list.  One file has
 * TEST_HARNESS_MAIN.  A fixture that several files use is defined in each, under the
 * same name.
 */
#ifndef SELFTEST_KVM_VM2VM_HARNESS_H
#define SELFTEST_KVM_VM2VM_HARNESS_H

#include <linux/compiler.h>

struct __test_metadata;
struct __fixture_metadata;
struct __fixture_variant_metadata;

/* The head of the list of fixtures, and the test that runs */
extern struct __fixture_metadata _fixture_global __weak;
extern struct __test_metadata *__active_test __weak;

/* Static, as a declaration before them says so; only the file with main() uses the last */
static void __wait_for_test(struct __test_metadata *t);
static void __maybe_unused __run_test(struct __fixture_metadata *f,
				      struct __fixture_variant_metadata *variant,
				      struct __test_metadata *t);
static int __maybe_unused test_harness_run(int argc, char **argv);

#include "kselftest_harness.h"

/* The functions of a fixture are static, too: each file that defines it has its own. */
#define __VM2VM_FIXTURE_FUNCTION(name, what)						\
	static void name##_##what(struct __test_metadata __maybe_unused *_metadata,	\
				  struct _test_data_##name __maybe_unused *self,	\
				  const struct _fixture_variant_##name __maybe_unused *variant)

#undef FIXTURE_SETUP
#define FIXTURE_SETUP(name)	__VM2VM_FIXTURE_FUNCTION(name, setup)

#undef __FIXTURE_TEARDOWN
#define __FIXTURE_TEARDOWN(name) __VM2VM_FIXTURE_FUNCTION(name, teardown)

#endif /* SELFTEST_KVM_VM2VM_HARNESS_H */
