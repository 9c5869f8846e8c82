# Builds the last 64 KiB of the second machine's ROM: make -f build.mk [O=dir].
#
# rom-image.ts puts a program for the monitor in front of it.

MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all clean

CC := gcc
LD := ld
O ?= build

C_SOURCES := monitor.c print.c state.c vmx.c
ASM_SOURCES := boot.S entry.S other.S
HEADERS := layout.h monitor.h
OBJECTS := $(ASM_SOURCES:%.S=$(O)/%.o) $(C_SOURCES:%.c=$(O)/%.o)
CFLAGS := -std=gnu11 -O2 -m64 -ffreestanding -fno-builtin -mno-red-zone -mgeneral-regs-only -mcmodel=small \
	-fno-pie -fno-stack-protector -fno-asynchronous-unwind-tables -fno-strict-aliasing -fcf-protection=none \
	-fno-delete-null-pointer-checks -Wall -Wextra -Werror

all: $(O)/tail.bin

$(O)/%.o: %.S $(HEADERS) build.mk
	@mkdir -p $(O)
	@$(CC) -m64 -c -o $@ $<

$(O)/%.o: %.c $(HEADERS) build.mk
	@mkdir -p $(O)
	@$(CC) $(CFLAGS) -c -o $@ $<

$(O)/monitor.elf: $(OBJECTS) monitor.lds
	@$(LD) -nostdlib -no-pie -z noexecstack --no-warn-rwx-segments -T monitor.lds -o $@ $(OBJECTS)

$(O)/tail.bin: $(O)/monitor.elf
	@objcopy -O binary --gap-fill 0xff -j .monitor -j .boot -j .reset $< $@

clean:
	rm -rf $(O)
