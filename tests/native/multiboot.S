/* A Multiboot image that asks of a machine what kvm-unit-tests do: the information of the loader, a UART at 0x3f8 whose speed is
 * set and whose line status is waited for, the count of processors by fw_cfg, real mode with an interrupt in it and back, a time
 * stamp counter that grows, long mode by page tables of its own, the other processors by INIT and a SIPI right behind it with
 * vector 0, and the end by 32 bits through debug-exit at 0xf4: status 1 where all is well, 3 where something is not. Beyond them
 * it reads the MP table, which old kernels count processors by.
 *
 *     gcc -m32 -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-Ttext=0x100000 -o multiboot.elf multiboot.S */
#define SCRATCH 0x9000   /* what real mode leaves */
#define REAL 0x8000      /* where the code for real mode is copied to */
#define AP 0             /* and that of the other processors: vector 0 */
#define MP 0xf0000       /* where the MP table is looked for, up to 1 MiB */
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
    call speed
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
    cmpl $0x5678, SCRATCH           /* through a segment of real mode, an interrupt, and a stack of its own */
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

    mov $MP, %esi                   /* the MP floating pointer, at a multiple of 16 */
1:  cmpl $0x5f504d5f, (%esi)        /* "_MP_" */
    je 2f
    add $16, %esi
    cmp $0x100000, %esi
    jb 1b
    jmp fail
2:  mov $16, %ecx
    call adds_up
    mov 4(%esi), %esi               /* the table: "PCMP" */
    cmpl $0x504d4350, (%esi)
    jne fail
    movzwl 4(%esi), %ecx
    call adds_up
    movzwl 34(%esi), %ecx           /* entries: a processor's has 20 bytes, another's 8 */
    add $44, %esi
    xor %edi, %edi
3:  cmpb $0, (%esi)
    jne 4f
    testb $1, 3(%esi)               /* one that may be used */
    jz fail
    inc %edi
    add $12, %esi
4:  add $8, %esi
    loop 3b
    cmp processors, %edi
    jne fail
    say "PASS: mptable"

    mov $0xff, %al                  /* the PICs silent */
    outb %al, $0x21
    outb %al, $0xa1
    movl $0x1ff, LAPIC + 0xf0       /* the local APIC on */
    movl $0xc4500, LAPIC + 0x300    /* INIT to all others */
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

    mov $ptl2, %edi                 /* the first 4 GiB in pages of 2 MiB, each to itself */
    mov $0x83, %eax
1:  mov %eax, (%edi)
    add $8, %edi
    add $0x200000, %eax
    jnc 1b
    mov $ptl3, %edi
    mov $(ptl2 + 3), %eax
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $8, %edi
    add $0x1000, %eax
    loop 1b
    movl $(ptl3 + 3), ptl4
    mov $ptl4, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x20, %eax                  /* PAE */
    mov %eax, %cr4
    mov $0xc0000080, %ecx           /* EFER */
    rdmsr
    or $0x100, %eax                 /* LME */
    wrmsr
    mov %cr0, %eax
    or $0x80000001, %eax            /* PG, PE */
    mov %eax, %cr0
    ljmp $0x28, $long

.code64
long:
    mov $0x123456789abcdef0, %rax
    shr $32, %rax
    cmp $0x12345678, %eax
    mov $0, %eax                    /* which leaves the flags */
    setne %al                       /* what is written to debug-exit: 0 is well */
    mov $0xc0000080, %ecx
    mov %eax, %esi
    rdmsr
    bt $10, %eax                    /* LMA */
    mov %esi, %eax
    jc 1f
    mov $1, %eax
1:  test %eax, %eax
    jnz 2f
    lea passed(%rip), %rsi
    mov $0x3f8, %edx
3:  lodsb
    test %al, %al
    jz 2f
    outb %al, %dx
    jmp 3b
2:  mov %esi, %ecx
    cmp $(passed_end), %ecx         /* all of it was printed */
    mov $0, %eax
    setne %al
    outl %eax, $0xf4
    hlt

.code32
fail:
    say "FAIL"
    mov $1, %eax
    outl %eax, $0xf4
    hlt

print:
    lodsb
    test %al, %al
    jz 1f
    mov %al, %ah
    mov $0x3fd, %dx
2:  inb %dx, %al                    /* room for a byte */
    test $0x20, %al
    jz 2b
    mov %ah, %al
    mov $0x3f8, %dx
    outb %al, %dx
    jmp print
1:  ret

speed:                              /* 115200 baud through DLAB, 8 bits, no FIFO */
    mov $0x3fb, %dx
    inb %dx, %al
    or $0x80, %al
    outb %al, %dx
    mov $0x3f8, %dx
    mov $1, %al
    outb %al, %dx
    inc %dx
    xor %al, %al
    outb %al, %dx
    mov $0x3fb, %dx
    mov $3, %al
    outb %al, %dx
    dec %dx
    xor %al, %al
    outb %al, %dx
    ret

adds_up:                            /* the ecx bytes at esi, to 0 modulo 256 */
    mov %esi, %edi
    xor %al, %al
1:  add (%edi), %al
    inc %edi
    loop 1b
    test %al, %al
    jnz fail
    ret

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
1:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $0x6000, %sp
    movw $(REAL + 2f - real), 0x11 * 4  /* the table at 0, since no LIDT said another: offset, segment */
    mov %ax, 0x11 * 4 + 2
    pushw $0x5600
    popw %ax
    int $0x11
    mov $(SCRATCH >> 4), %dx        /* segment * 16 */
    mov %dx, %ds
    movzwl %ax, %eax
    mov %eax, 0
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $0x8, $back
2:  mov $0x78, %al
    iret
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
    .quad 0x00af9b000000ffff        /* 0x28: code, 64 bits */
gdt_pointer:
    .word . - gdt - 1
    .long gdt
processors:
    .long 0
passed:
    .asciz "PASS: long mode\n"
passed_end:
.bss
    .balign 4096
ptl4: .skip 4096
ptl3: .skip 4096
ptl2: .skip 4 * 4096
    .skip 4096
stack:
