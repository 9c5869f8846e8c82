# The engine binding: libunicorn behind one native class. `npm ci` and `make engine` build it.
{
  "targets": [
    {
      "target_name": "caretaker_engine",
      "sources": [
        "emulator/cpu/native/binding.cc",
        "emulator/cpu/native/code-map.cc",
        "emulator/cpu/native/context-layout.cc",
        "emulator/cpu/native/engine.cc",
        "emulator/cpu/native/engine-cet.cc",
        "emulator/cpu/native/engine-hooks.cc",
        "emulator/cpu/native/engine-snapshot.cc",
        "emulator/cpu/native/engine-spaces.cc",
        "emulator/cpu/native/engine-stops.cc",
        "emulator/cpu/native/engine-watch.cc",
        "emulator/cpu/native/page-tables.cc",
        "emulator/cpu/native/physical-map.cc",
        "emulator/cpu/native/shared-memory.cc",
      ],
      "include_dirs": [
        "<!(node -p \"require('node-addon-api').include_dir\")",
        "<!(node emulator/cpu/native/find-unicorn.mjs --include)",
      ],
      "libraries": ["<!@(node emulator/cpu/native/find-unicorn.mjs --libraries)"],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_CPP_EXCEPTIONS"],
      "cflags": ["-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"],
      "cflags_cc": ["-std=c++17"],
      "cflags!": ["-fno-exceptions"],
      "cflags_cc!": ["-fno-exceptions", "-std=gnu++17"],
      "xcode_settings": {
        "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
        "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
      },
      "conditions": [["OS=='linux'", {"ldflags": ["-Wl,--exclude-libs,ALL"]}]],
    }
  ]
}
