// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// Which words of the block a round mixes in, in the order in which it needs
// them: for the columns first and second, for the diagonals first and second.
DATA schedule<>+0(SB)/8, $0x0000000200000000
DATA schedule<>+8(SB)/8, $0x0000000600000004
DATA schedule<>+16(SB)/8, $0x0000000300000001
DATA schedule<>+24(SB)/8, $0x0000000700000005
DATA schedule<>+32(SB)/8, $0x0000000a00000008
DATA schedule<>+40(SB)/8, $0x0000000e0000000c
DATA schedule<>+48(SB)/8, $0x0000000b00000009
DATA schedule<>+56(SB)/8, $0x0000000f0000000d
DATA schedule<>+64(SB)/8, $0x0000000300000002
DATA schedule<>+72(SB)/8, $0x0000000400000007
DATA schedule<>+80(SB)/8, $0x0000000a00000006
DATA schedule<>+88(SB)/8, $0x0000000d00000000
DATA schedule<>+96(SB)/8, $0x0000000c00000001
DATA schedule<>+104(SB)/8, $0x0000000f00000009
DATA schedule<>+112(SB)/8, $0x000000050000000b
DATA schedule<>+120(SB)/8, $0x000000080000000e
DATA schedule<>+128(SB)/8, $0x0000000a00000003
DATA schedule<>+136(SB)/8, $0x000000070000000d
DATA schedule<>+144(SB)/8, $0x0000000c00000004
DATA schedule<>+152(SB)/8, $0x0000000e00000002
DATA schedule<>+160(SB)/8, $0x0000000900000006
DATA schedule<>+168(SB)/8, $0x000000080000000b
DATA schedule<>+176(SB)/8, $0x0000000000000005
DATA schedule<>+184(SB)/8, $0x000000010000000f
DATA schedule<>+192(SB)/8, $0x0000000c0000000a
DATA schedule<>+200(SB)/8, $0x0000000d0000000e
DATA schedule<>+208(SB)/8, $0x0000000900000007
DATA schedule<>+216(SB)/8, $0x0000000f00000003
DATA schedule<>+224(SB)/8, $0x0000000b00000004
DATA schedule<>+232(SB)/8, $0x0000000100000005
DATA schedule<>+240(SB)/8, $0x0000000200000000
DATA schedule<>+248(SB)/8, $0x0000000600000008
DATA schedule<>+256(SB)/8, $0x000000090000000c
DATA schedule<>+264(SB)/8, $0x0000000e0000000f
DATA schedule<>+272(SB)/8, $0x0000000b0000000d
DATA schedule<>+280(SB)/8, $0x000000080000000a
DATA schedule<>+288(SB)/8, $0x0000000500000007
DATA schedule<>+296(SB)/8, $0x0000000600000000
DATA schedule<>+304(SB)/8, $0x0000000300000002
DATA schedule<>+312(SB)/8, $0x0000000400000001
DATA schedule<>+320(SB)/8, $0x0000000b00000009
DATA schedule<>+328(SB)/8, $0x0000000f00000008
DATA schedule<>+336(SB)/8, $0x000000050000000e
DATA schedule<>+344(SB)/8, $0x000000010000000c
DATA schedule<>+352(SB)/8, $0x000000000000000d
DATA schedule<>+360(SB)/8, $0x0000000400000002
DATA schedule<>+368(SB)/8, $0x0000000a00000003
DATA schedule<>+376(SB)/8, $0x0000000700000006
DATA schedule<>+384(SB)/8, $0x000000050000000b
DATA schedule<>+392(SB)/8, $0x0000000800000001
DATA schedule<>+400(SB)/8, $0x000000000000000f
DATA schedule<>+408(SB)/8, $0x0000000600000009
DATA schedule<>+416(SB)/8, $0x000000020000000e
DATA schedule<>+424(SB)/8, $0x0000000700000003
DATA schedule<>+432(SB)/8, $0x0000000c0000000a
DATA schedule<>+440(SB)/8, $0x0000000d00000004
GLOBL schedule<>(SB), RODATA|NOPTR, $448

DATA iv<>+0(SB)/8, $0xbb67ae856a09e667
DATA iv<>+8(SB)/8, $0xa54ff53a3c6ef372
GLOBL iv<>(SB), RODATA|NOPTR, $16

// MIX mixes the words mx and my into four columns at once. X0 to X3 are the rows.
#define MIX(mx, my) \
	VPADDD mx, X0, X0; \
	VPADDD X1, X0, X0; \
	VPXOR  X0, X3, X3; \
	VPRORD $16, X3, X3; \
	VPADDD X3, X2, X2; \
	VPXOR  X2, X1, X1; \
	VPRORD $12, X1, X1; \
	VPADDD my, X0, X0; \
	VPADDD X1, X0, X0; \
	VPXOR  X0, X3, X3; \
	VPRORD $8, X3, X3; \
	VPADDD X3, X2, X2; \
	VPXOR  X2, X1, X1; \
	VPRORD $7, X1, X1

// ROUND mixes columns, then diagonals, which are columns once rows were turned.
// Z4 is the block.
#define ROUND(at) \
	VMOVDQU32 schedule<>+at(SB), Z5; \
	VPERMD Z4, Z5, Z5; \
	VEXTRACTI32X4 $1, Z5, X6; \
	VEXTRACTI32X4 $2, Z5, X7; \
	VEXTRACTI32X4 $3, Z5, X8; \
	MIX(X5, X6); \
	VPSHUFD $0x39, X1, X1; \
	VPSHUFD $0x4E, X2, X2; \
	VPSHUFD $0x93, X3, X3; \
	MIX(X7, X8); \
	VPSHUFD $0x93, X1, X1; \
	VPSHUFD $0x4E, X2, X2; \
	VPSHUFD $0x39, X3, X3

// func compressAVX512(out, cv *Words, block *[64]byte, tail uint64)
TEXT ·compressAVX512(SB), NOSPLIT, $0-32
	MOVQ out+0(FP), AX
	MOVQ cv+8(FP), BX
	MOVQ block+16(FP), CX
	VMOVDQU (BX), X0
	VMOVDQU 16(BX), X1
	VMOVDQU iv<>(SB), X2
	MOVQ tail+24(FP), DX
	VMOVQ DX, X3
	VPSLLDQ $8, X3, X3 // the counter, 0, comes first
	VMOVDQU32 (CX), Z4
	ROUND(0)
	ROUND(64)
	ROUND(128)
	ROUND(192)
	ROUND(256)
	ROUND(320)
	ROUND(384)
	VPXOR X2, X0, X0
	VPXOR X3, X1, X1
	VMOVDQU X0, (AX)
	VMOVDQU X1, 16(AX)
	VZEROUPPER
	RET
