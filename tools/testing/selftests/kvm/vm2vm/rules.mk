# SPDX-License-Identifier: GPL-2.0
# How the programs of vm2vm are linked; included at the end of the Makefile of KVM's
# selftests, which links each with libkvm.  vm2vm_NAME.c or vm2vm_NAME_test.c goes with
# all of vm2vm/NAME/, and with lib/vm2vm_*.c.

VM2VM_LIB_OBJ := $(patsubst %.c,$(OUTPUT)/%.o,$(sort $(wildcard lib/vm2vm_*.c)))
VM2VM_PART_OBJ := $(patsubst %.c,$(OUTPUT)/%.o,$(sort $(wildcard vm2vm/*/*.c)))

define vm2vm-program
$(OUTPUT)/$(1): LDLIBS += $(filter $(OUTPUT)/vm2vm/$(2)/%,$(VM2VM_PART_OBJ)) $(VM2VM_LIB_OBJ)
$(OUTPUT)/$(1): $(filter $(OUTPUT)/vm2vm/$(2)/%,$(VM2VM_PART_OBJ)) $(VM2VM_LIB_OBJ)
endef

ifeq ($(ARCH_DIR),x86_64)
$(foreach p,$(VM2VM_TESTS) $(VM2VM_TOOLS), \
	$(eval $(call vm2vm-program,$(p),$(patsubst vm2vm_%,%,$(patsubst %_test,%,$(p))))))
endif

$(shell mkdir -p $(sort $(dir $(VM2VM_LIB_OBJ) $(VM2VM_PART_OBJ))))
$(VM2VM_LIB_OBJ) $(VM2VM_PART_OBJ): $(OUTPUT)/%.o: %.c $(GEN_HDRS)
	$(CC) $(CFLAGS) $(CPPFLAGS) $(TARGET_ARCH) -c $< -o $@

-include $(patsubst %.o,%.d,$(VM2VM_LIB_OBJ) $(VM2VM_PART_OBJ))
EXTRA_CLEAN += $(VM2VM_LIB_OBJ) $(VM2VM_PART_OBJ)
