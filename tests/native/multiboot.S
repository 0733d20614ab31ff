/* A Multiboot image that asks of a machine what kvm-unit-tests do: the information of the loader, serial output at 0x3f8, the
 * count of processors by fw_cfg, real mode and back, a time stamp counter that grows, the other processors by INIT and SIPI, and
 * the end through debug-exit at 0xf4: status 1 where all is well, 3 where something is not.
 *
 *     gcc -m32 -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-Ttext=0x100000 -o multiboot.elf multiboot.S */
#define SCRATCH 0x9000   /* what real mode leaves */
#define REAL 0x8000      /* where the code for real mode is copied to */
#define AP 0x7000        /* and that of the other processors: vector 7 */
#define ONLINE 0x9010    /* how many of them have come */
#define LAPIC 0xfee00000

.macro say text
    mov $1f, %esi
    call print
    .section .rodata
1:  .asciz "\text\n"
    .text
.endm

.text
.code32
.globl _start
    .balign 4
    .long 0x1badb002, 0, -0x1badb002
_start:
    mov $stack, %esp
    cld
    cmp $0x2badb002, %eax
    jne fail
    testl $1, (%ebx)                /* memory information is there */
    jz fail
    say "PASS: loader"

    xor %eax, %eax                  /* fw_cfg's signature */
    mov $0x510, %dx
    outw %ax, %dx
    inc %dx
    inb %dx, %al
    cmp $'Q', %al
    jne fail
    mov $5, %eax                    /* the processors */
    dec %dx
    outw %ax, %dx
    inc %dx
    inb %dx, %al
    mov %al, %cl
    inb %dx, %al
    mov %al, %ch
    movzwl %cx, %ecx
    mov %ecx, processors
    say "PASS: fw_cfg"

    mov $real, %esi
    mov $REAL, %edi
    mov $(real_end - real), %ecx
    rep movsb
    mov $ap, %esi
    mov $AP, %edi
    mov $(ap_end - ap), %ecx
    rep movsb
    lgdt gdt_pointer
    ljmp $0x18, $REAL               /* 16-bit segments first (SDM volume 3A, 10.9.2) */
back:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $stack, %esp
    cmpl $0x5678, SCRATCH           /* through a segment of real mode, and a stack of its own */
    jne fail
    say "PASS: realmode"

    rdtsc
    mov %eax, %esi
    mov %edx, %edi
    mov $1000, %ecx
1:  loop 1b
    rdtsc
    sub %esi, %eax
    sbb %edi, %edx
    js fail
    or %eax, %edx
    jz fail
    say "PASS: tsc"

    movl $0x1ff, LAPIC + 0xf0       /* the local APIC on */
    movl $0xc4500, LAPIC + 0x300    /* INIT to all others */
    mov $100000, %ecx
1:  loop 1b
    movl $0xc4600 + (AP >> 12), LAPIC + 0x300
    mov $20000000, %ecx
1:  mov ONLINE, %eax
    inc %eax
    cmp processors, %eax
    je 2f
    pause
    loop 1b
    jmp fail
2:  say "PASS: smp"
    xor %eax, %eax
    outb %al, $0xf4
fail:
    say "FAIL"
    mov $1, %eax
    outb %al, $0xf4
    hlt

print:
    lodsb
    test %al, %al
    jz 1f
    mov $0x3f8, %dx
    outb %al, %dx
    jmp print
1:  ret

.code16
real:
    mov $0x20, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %cr0, %eax
    and $~1, %eax
    mov %eax, %cr0
    ljmp $0, $(REAL + 1f - real)
1:  mov $(SCRATCH >> 4), %ax        /* segment * 16 */
    mov %ax, %ds
    xor %ax, %ax
    mov %ax, %ss
    mov $0x6000, %sp
    pushw $0x5678
    popw %ax
    movzwl %ax, %eax
    mov %eax, 0
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $0x8, $back
real_end:

ap: xor %ax, %ax
    mov %ax, %ds
    lock incl ONLINE
1:  cli
    hlt
    jmp 1b
ap_end:

.code32
.data
    .balign 8
gdt: .quad 0
    .quad 0x00cf9b000000ffff        /* 0x08: code, 32 bits */
    .quad 0x00cf93000000ffff        /* 0x10: data */
    .quad 0x00009b000000ffff        /* 0x18: code, 16 bits */
    .quad 0x000093000000ffff        /* 0x20: data of 64 KiB */
gdt_pointer:
    .word . - gdt - 1
    .long gdt
processors:
    .long 0
.bss
    .skip 4096
stack:
