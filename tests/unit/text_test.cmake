# SPDX-License-Identifier: MIT
target_sources(text_test PRIVATE unit/judge.c)
