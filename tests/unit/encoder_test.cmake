# SPDX-License-Identifier: MIT
target_sources(encoder_test PRIVATE unit/judge.c)
target_compile_definitions(encoder_test PRIVATE PROTO_DIR="${CMAKE_SOURCE_DIR}/proto")
