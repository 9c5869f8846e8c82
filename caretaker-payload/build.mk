# Builds the reference payload: make -C caretaker-payload -f build.mk [CC=clang LD=ld.lld] [DWARF=4] [O=dir].
#
# Makes caretaker.elf, its disassembly, its symbols and its stack usage, with
# the same bytes wherever the tree lies; and compromised.elf, which turns on its
# host.

MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all clean

# make has built-in values for both, which are not meant.
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin LD),default)
LD := ld
endif
O ?= build
DWARF := 5
ABI := ../abi/include

C_SOURCES := advance.c apic-read.c apic.c cpuid.c dispatch.c exception.c fault.c hlt.c init.c \
	inject.c interrupt.c ipi.c machine-check.c msr.c spin.c stop.c string.c telemetry.c timer.c \
	trap.c
# First the stubs: e_entry 0 would read as "no entry point".
ASM_SOURCES := idt.S entry.S
OBJECTS := $(ASM_SOURCES:%.S=$(O)/%.o) $(C_SOURCES:%.c=$(O)/%.o)
PRODUCTS := $(addprefix $(O)/,caretaker.elf compromised.elf caretaker.asm caretaker.sym stack-usage.txt)

# Debug information names files as the tree does, not as this machine does.
PREFIX_MAPS := -ffile-prefix-map=$(CURDIR)=. -ffile-prefix-map=$(abspath $(ABI))=$(ABI) \
	-ffile-prefix-map=$(abspath $(O))=build -ffile-prefix-map=$(O)=build
VERSION := $(shell $(CC) --version | head -n 1)
# clang's assembler does not apply the maps to the directory it is started in.
ifneq ($(findstring clang,$(VERSION)),)
PREFIX_MAPS += -fdebug-compilation-dir=.
endif
COMMON_FLAGS := -m64 -g -gdwarf-$(DWARF) -nostdinc -I. -I$(O) -I$(ABI) $(PREFIX_MAPS)
# The payload runs on registers the guest still owns: general registers only,
# no red zone (an NMI without IST would use it), no thunk and no table outside.
CFLAGS := -std=gnu11 -O2 -ffreestanding -fno-builtin -mno-red-zone -mgeneral-regs-only -fpie \
	-fvisibility=hidden -fno-stack-protector -fno-asynchronous-unwind-tables -fno-unwind-tables \
	-fno-common -fno-strict-aliasing -fno-delete-null-pointer-checks -fcf-protection=full \
	-fno-jump-tables -fstack-usage \
	-Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -Wundef -Wshadow -Wvla
LDFLAGS := -nostdlib -pie --no-dynamic-linker -z text -z noexecstack -z max-page-size=4096 -z norelro \
	--build-id=none --hash-style=gnu --orphan-handling=error --fatal-warnings -T caretaker.lds

all: $(PRODUCTS)

# A change of compiler, flags or make file rebuilds everything.
STAMP := $(O)/.command
COMMAND := $(VERSION) $(CC) $(LD) $(COMMON_FLAGS) $(CFLAGS) $(LDFLAGS) $(OBJECTS)
$(shell mkdir -p $(O); echo '$(COMMAND)' | cmp -s - $(STAMP) || echo '$(COMMAND)' > $(STAMP))

$(O)/asm-offsets.s: asm-offsets.c $(STAMP)
	@$(CC) $(COMMON_FLAGS) $(filter-out -fstack-usage,$(CFLAGS)) -g0 -MMD -MP -MF $(O)/asm-offsets.d -MT $@ -S -o $@ $<

# "->NAME $value" from the assembly becomes "#define NAME value".
$(O)/asm-offsets.h: $(O)/asm-offsets.s
	@sed -n 's/.*"->\([A-Z0-9_]*\) [$$]*\([-0-9]*\)".*/#define \1 \2/p' $< > $@

$(O)/%.o: %.S $(O)/asm-offsets.h $(STAMP)
	@echo "  AS       $<"
	@$(CC) $(COMMON_FLAGS) -MMD -MP -c -o $@ $<

$(O)/%.o: %.c $(STAMP)
	@echo "  CC       $<"
	@$(CC) $(COMMON_FLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(O)/caretaker.elf: $(OBJECTS) caretaker.lds $(STAMP)
	@echo "  LD       $@"
	@$(LD) $(LDFLAGS) -o $@ $(OBJECTS)

$(O)/compromised.elf: $(OBJECTS) $(O)/compromised.o caretaker.lds $(STAMP)
	@echo "  LD       $@"
	@$(LD) $(LDFLAGS) --wrap=caretaker_dispatch -o $@ $(OBJECTS) $(O)/compromised.o

$(O)/caretaker.asm: $(O)/caretaker.elf
	@objdump --disassemble --no-show-raw-insn --wide $< | sed 1,3d > $@

$(O)/caretaker.sym: $(O)/caretaker.elf
	@nm --numeric-sort $< > $@

# Bytes and function, most first.
$(O)/stack-usage.txt: $(O)/caretaker.elf
	@cat $(C_SOURCES:%.c=$(O)/%.su) | awk '{ sub(/^.*:/, "", $$1); print $$2, $$1, $$3 }' | sort -k1,1nr -k2,2 > $@

clean:
	rm -rf $(O)

-include $(OBJECTS:.o=.d) $(O)/compromised.d $(O)/asm-offsets.d
