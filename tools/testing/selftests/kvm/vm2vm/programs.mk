# SPDX-License-Identifier: GPL-2.0
# The programs of vm2vm; included by the Makefile of KVM's selftests before it knows
# where they go.  What is not a test by itself takes arguments, or measures.

VM2VM_TESTS := $(patsubst %.c,%,$(sort $(wildcard vm2vm_*test.c)))
VM2VM_TOOLS := vm2vm_bench vm2vm_demo vm2vm_view_bench

TEST_GEN_PROGS_x86_64 += $(VM2VM_TESTS)
TEST_GEN_PROGS_EXTENDED_x86_64 += $(VM2VM_TOOLS)
