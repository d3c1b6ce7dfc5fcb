// The archive that scripts/build-cuda.js makes (PREBUILT names it), as bytes of the addon.
    .section .rodata
    .global nanoflow_prebuilt_begin
    .global nanoflow_prebuilt_end
    .balign 64
nanoflow_prebuilt_begin:
    .incbin PREBUILT
nanoflow_prebuilt_end:
    .byte 0
    .section .note.GNU-stack,"",@progbits
