/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * vm2vm: the guest's side of views.
 *
 * A view shows the windows of one peer, besides everything that the VM has anyway.
 * The VMM makes views by KVM_VM2VM_LINK_TRANSIENT, and tells its guest by a means of
 * its own which number is which peer's and where its window is; this header has what
 * the guest does with that.  It needs nothing but a compiler for x86, so it can be
 * taken into drivers, and into programs, of other projects as it is.
 */
#ifndef VM2VM_VIEW_GUEST_H
#define VM2VM_VIEW_GUEST_H

/* VMFUNC, for assemblers that do not know it. */
#define VM2VM_VMFUNC	".byte 0x0f, 0x01, 0xd4"

/**
 * vm2vm_view_enter() - let this CPU see the window of one peer
 * @view: number of the view; 0 is that without any window
 *
 * When to use: around the accesses to one peer's memory.  It is one instruction, and
 * it exits only the first time on a CPU, and the first time after the VM's memory has
 * changed.  A loop over several peers goes from view to view; it need not be in view 0
 * in between.  Nobody reaches a peer's memory by a stray pointer while the CPU is in
 * another view.
 *
 * What changes: the guest-physical range of this view's window, and no other; no
 * register, no flag, no segment and no page table.  The guest's own memory and its
 * devices are where they always are.  So there is no gate and no special stack, and
 * page tables, stacks, code and interrupt handlers work inside as they do outside.
 * The guest maps the window once, in its own page tables, and that mapping stays.
 *
 * The wrong view: a window that the current view does not have is a hole.  Depending
 * on the link reads give all-ones and writes are dropped, or the VMM is told.  This
 * is also what is left if the peer revokes or dies while a CPU is inside, or if the
 * VMM takes the link away, which leaves the CPU in view 0.  Whoever must not take
 * all-ones for data needs a word in the window that is never all-ones, and looks at it
 * last.
 *
 * A view that does not exist is an undefined opcode (#UD), and the CPU stays in the
 * view where it is.  A guest whose VMM may take links away at any time, without asking
 * it before, uses vm2vm_view_try() instead.
 *
 * Preemption: the view is a register of the CPU that the guest's scheduler does not
 * know.  A thread that is preempted inside leaves its CPU in the view, for everybody
 * who comes next there, and goes on in whatever view its next CPU is in.  A kernel
 * disables preemption from before the entry until after the leaving, and does not
 * sleep or fault in between; or it has its scheduler restore the view of a task.  A
 * program needs a CPU of its own, or the means to notice: the word from above that is
 * looked at last.
 *
 * Interrupts, exceptions and NMIs need nothing: their handlers run inside the view
 * and return into it.  A handler that enters a view must know the one to go back to.
 *
 * Nesting: there is none.  Entering a view leaves the one before, and no instruction
 * tells which that was.  Code that may be called inside a view is told by its caller
 * which to go back to.
 *
 * Privilege: the CPU does not look at it.  Any program in the VM's ring 3 can be in
 * any view that exists, and what it finds there is up to the guest's page tables.  A
 * program without a mapping of the window's addresses has no use for it.  In the same
 * way an entry in a program that nobody expects is possible, so a kernel that depends
 * on a view at some place enters it there.
 *
 * Compilers: accesses to memory do not move across.
 */
static inline void vm2vm_view_enter(unsigned int view)
{
	__asm__ __volatile__(VM2VM_VMFUNC : : "a" (0), "c" (view) : "memory");
}

/**
 * vm2vm_view_leave() - let this CPU see no window any more
 *
 * It is vm2vm_view_enter() of view 0: what follows is all-ones, or an error.
 */
static inline void vm2vm_view_leave(void)
{
	vm2vm_view_enter(0);
}

/*
 * bool vm2vm_view_try(unsigned int view): vm2vm_view_enter(), but false if there is no
 * such view; the CPU stays where it is then.
 *
 * bool vm2vm_view_probe(void): are there views in this VM?  No CPUID leaf says so, but
 * view 0 does: to enter it changes nothing where views are on, and is an undefined
 * opcode where they are not.  They are on from the VM's first transient link on, for
 * good.  To be called in view 0, or to get there.
 *
 * In the Linux kernel an exception table entry catches the undefined opcode.
 *
 * In a program it is a SIGILL.  What is here takes the signal's action for a moment,
 * so it is for when no other thread has use for it; such a program defines
 * VM2VM_VIEW_SIGILL before it includes this header.
 *
 * Anywhere else an undefined-opcode handler has to skip the instruction's three bytes.
 */
#ifdef __KERNEL__

#include <linux/types.h>
#include <asm/asm.h>

static inline bool vm2vm_view_try(unsigned int view)
{
	bool done = false;

	asm volatile("1: " VM2VM_VMFUNC "\n\t"
		     "movb $1, %[done]\n"
		     "2:\n\t"
		     _ASM_EXTABLE(1b, 2b)
		     : [done] "+qm" (done) : "a" (0), "c" (view) : "memory");
	return done;
}

#elif defined(VM2VM_VIEW_SIGILL)

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>

static sigjmp_buf vm2vm_view_sigill_env;

static inline void vm2vm_view_sigill(int signal)
{
	siglongjmp(vm2vm_view_sigill_env, signal);
}

static inline bool vm2vm_view_try(unsigned int view)
{
	struct sigaction action = { .sa_handler = vm2vm_view_sigill }, old;
	int illegal;

	sigemptyset(&action.sa_mask);
	if (sigaction(SIGILL, &action, &old))
		return false;
	illegal = sigsetjmp(vm2vm_view_sigill_env, 1);
	if (!illegal)
		vm2vm_view_enter(view);
	sigaction(SIGILL, &old, NULL);
	return !illegal;
}

#endif

#if defined(__KERNEL__) || defined(VM2VM_VIEW_SIGILL)
static inline bool vm2vm_view_probe(void)
{
	return vm2vm_view_try(0);
}
#endif

#endif /* VM2VM_VIEW_GUEST_H */
