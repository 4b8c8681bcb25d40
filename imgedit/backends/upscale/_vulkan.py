"""Whether Vulkan has a graphics processor here: asked of its loader, for who asks a driver in vain may be killed."""

from __future__ import annotations

import ctypes
import sys

_NAMES = {"darwin": ("libvulkan.1.dylib", "libMoltenVK.dylib"), "win32": ("vulkan-1.dll",)}
#: integrated, discrete, virtual; others compute on the CPU, far slower than code that was written for it
_PROCESSORS = (1, 2, 3)
#: bytes that hold VkPhysicalDeviceProperties, and where in them the device's type stands
_PROPERTIES, _TYPE = 2048, 16


def processor() -> bool:
    """Return whether Vulkan's loader is here and knows a device that is a graphics processor."""
    for name in _NAMES.get(sys.platform, ("libvulkan.so.1",)):
        try:
            return _asked(ctypes.CDLL(name))
        except (OSError, AttributeError):
            continue
    return False


def _asked(vulkan: ctypes.CDLL) -> bool:
    # VkInstanceCreateInfo, all 0 but its type, which is 1
    info = (ctypes.c_uint64 * 8)(1)
    instance = ctypes.c_void_p()
    if vulkan.vkCreateInstance(info, None, ctypes.byref(instance)) != 0:
        return False
    try:
        count = ctypes.c_uint32()
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
        devices = (ctypes.c_void_p * count.value)()
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices)
        found = False
        for device in devices[: count.value]:
            properties = ctypes.create_string_buffer(_PROPERTIES)
            vulkan.vkGetPhysicalDeviceProperties(ctypes.c_void_p(device), properties)
            found |= int.from_bytes(properties.raw[_TYPE : _TYPE + 4], sys.byteorder) in _PROCESSORS
        return found
    finally:
        vulkan.vkDestroyInstance(instance, None)
