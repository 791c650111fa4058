"""Which of many devices satisfy a profile, without a look at each of them.

What feasibility.py decides for one device, from sets of devices that have the same attribute: a test holds the two
against each other.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property

from devices.capacity import Signature
from tasks.scheduling.bits import Ordered
from tasks.scheduling.profiles import ProfileKey

Sets = dict[Hashable, int]


class Roster:
    """The devices by number, in the order given."""

    def __init__(self, signatures: Sequence[Signature]) -> None:
        self._signatures = signatures

    def fitting(self, profile: ProfileKey) -> int:
        """The set of those that satisfy every requirement, their momentary load aside."""
        need = profile.requirements
        found = self._task_types.get(profile.task_type, 0)
        for tag in need.required_tags:
            found &= self._tags.get(tag, 0)
        if need.required_platform:
            found &= self._platforms.get(need.required_platform, 0)
        if need.required_role:
            found &= self._roles.get(need.required_role, 0)
        if need.gpu_required:
            found &= self._with_gpu.get(True, 0)
        if need.internet_required:
            found &= self._with_internet.get(True, 0)
        if found and need.min_cpu_cores:
            found &= self._cores.at_least(need.min_cpu_cores)
        if found and need.memory_mb:
            found &= self._memory.at_least(need.memory_mb)
        if found and need.storage_mb:
            found &= self._storage.at_least(need.storage_mb)
        return found

    # Each made at first use: most profiles ask for little.

    @cached_property
    def _task_types(self) -> Sets:
        return self._by(lambda device: device.task_types)

    @cached_property
    def _tags(self) -> Sets:
        return self._by(lambda device: device.tags)

    @cached_property
    def _platforms(self) -> Sets:
        return self._by(lambda device: (device.platform,))

    @cached_property
    def _roles(self) -> Sets:
        return self._by(lambda device: (device.role,))

    @cached_property
    def _with_gpu(self) -> Sets:
        return self._by(lambda device: (device.has_gpu,))

    @cached_property
    def _with_internet(self) -> Sets:
        return self._by(lambda device: (device.has_internet,))

    @cached_property
    def _cores(self) -> Ordered:
        return Ordered([device.cpu_count for device in self._signatures])

    @cached_property
    def _memory(self) -> Ordered:
        return Ordered([device.memory_mb for device in self._signatures])

    @cached_property
    def _storage(self) -> Ordered:
        return Ordered([device.storage_mb for device in self._signatures])

    def _by(self, values: Callable[[Signature], Iterable[Hashable]]) -> Sets:
        """The devices that have a value, by value."""
        found: Sets = {}
        for number, device in enumerate(self._signatures):
            bit = 1 << number
            for value in values(device):
                found[value] = found.get(value, 0) | bit
        return found
