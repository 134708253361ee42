"""Energy by NVML's counter and by its power, on fakes; what a GPU does not tell."""

from __future__ import annotations

import sys

import pytest

from h2sim.gpu import energy as meter
from h2sim.gpu.energy import Sampler, conditions_of, counter_step_j, idle_power_w, measure_energy
from h2sim.gpu.meter import MeterError, NvmlMeter, State
from tests.helpers.gpu_fakes import FakeMeter, FakeNvml


def measured(fake, idle_w=30.0):
    return measure_energy(fake, fake.step, lambda: None, 0.25, idle_w, 2.0, fake.timing).energy


def test_energy_by_the_counter_is_its_difference_over_the_steps():
    fake = FakeMeter()
    energy = measured(fake)
    # 8 steps of 0.25 s at 100 W, 30 W of them idle; 4 more as a check
    assert (fake.steps - 4, energy.measured_steps, energy.measured_seconds) == (8, 8, 2.0)
    assert (energy.joules, energy.above_idle_joules, energy.idle_w) == (25.0, 17.5, 30.0)
    assert energy.method.startswith("NVML's total energy counter")
    assert energy.memory_busy_share == 0.5


def test_energy_without_a_counter_is_the_integral_of_the_power():
    energy = measured(FakeMeter(counts=False, busy=None))
    assert (energy.joules, energy.above_idle_joules) == (pytest.approx(25.0), pytest.approx(17.5))
    assert "integrated by trapezoids" in energy.method
    assert energy.memory_busy_share is None


def test_a_counter_that_stands_still_is_not_believed():
    fake = FakeMeter()
    fake.energy_mj = lambda: 7
    assert "integrated" in measured(fake).method


def test_trapezoids_by_hand():
    # 10 W to 30 W in 1 s, then 30 W for 2 s
    assert meter.trapezoid_joules([(0.0, 10.0), (1.0, 30.0), (3.0, 30.0)]) == 80.0
    assert meter.trapezoid_joules([(0.0, 10.0)]) == 0.0


def test_a_gpu_that_tells_neither_energy_nor_power_is_no_meter():
    with pytest.raises(MeterError, match="this GPU gives neither energy nor power"):
        measured(FakeMeter(watts=None, counts=False), idle_w=None)
    with pytest.raises(MeterError, match="expected energy above 0 J; got 0 J"):
        measured(FakeMeter(watts=0.0, counts=False))


def test_idle_power_is_the_mean_of_a_second():
    assert idle_power_w(FakeMeter(42.0), timing=FakeMeter(42.0).timing) == 42.0
    assert idle_power_w(FakeMeter(None)) is None


def test_what_fails_in_the_sampling_thread_is_raised_where_the_block_ends(monkeypatch):
    fake = FakeMeter()
    monkeypatch.setattr(meter, "INTERVAL_S", 0.0005)
    sampler = Sampler(fake)

    def fail():
        raise MeterError("NVML: lost")

    def use():
        with sampler:
            fake.power_w = fail
            sampler._thread.join()

    with pytest.raises(MeterError, match="NVML: lost"):
        use()


def test_nvmls_units_become_joules_and_watts(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    nvml = NvmlMeter("GPU-1")
    assert (nvml.energy_mj(), nvml.power_w(), nvml.memory_busy_share()) == (5_000, pytest.approx(125.0), 0.4)
    assert (nvml.power_limit_w(), nvml.driver()) == (300.0, "580.1")
    # V100: 877 MHz, twice a clock, 512 bytes: 898 GB/s
    assert nvml.memory_bandwidth_bytes_per_s() == pytest.approx(898.048e9)
    # 5120 cores at 1530 MHz, a multiply and an add in each
    assert nvml.peak_flops_per_s() == pytest.approx(15.667e12, rel=1e-4)
    assert nvml.state() == State(1290, 870, 64, ("software power cap", "software thermal slowdown"))
    assert nvml.modes() == {"ecc": "on", "persistence": "off"}


def test_power_of_now_is_asked_for_before_the_mean_of_a_second(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml("nvmlDeviceGetFieldValues"))
    assert NvmlMeter("GPU-1").power_w() == pytest.approx(123.456)


def test_what_a_gpu_does_not_tell_is_none(monkeypatch):
    lacking = [name for name in vars(FakeNvml()) if name.startswith("nvmlDeviceGet") and "Handle" not in name]
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(*lacking, "nvmlSystemGetDriverVersion"))
    nvml = NvmlMeter("GPU-1")
    assert [nvml.energy_mj(), nvml.power_w(), nvml.memory_busy_share(), nvml.power_limit_w(), nvml.driver()] == [
        None
    ] * 5
    assert (nvml.memory_bandwidth_bytes_per_s(), nvml.peak_flops_per_s(), nvml.modes()) == (None, None, {})
    assert nvml.state() == State()


def test_no_nvml_is_a_reason_not_a_traceback(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MeterError, match="no pynvml: pip install nvidia-ml-py"):
        NvmlMeter("GPU-1")
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml("nvmlInit"))
    with pytest.raises(MeterError, match="NVML: Not Supported"):
        NvmlMeter("GPU-1")


def test_so_many_steps_that_they_last_long_enough():
    fake = FakeMeter()
    energy = measure_energy(fake, fake.step, lambda: None, 0.3, None, 2.0, fake.timing).energy
    assert (fake.steps, energy.measured_steps) == (7 + 4, 7)  # 6 would last 1.8 s
    assert energy.above_idle_joules is None


def test_idle_energy_is_taken_over_the_time_that_was_integrated():
    class Slow(FakeMeter):
        def power_w(self):
            self.seconds += 0.01  # a reading takes time: the last one comes after the last step's end
            return self.watts

    energy = measured(Slow(counts=False))
    assert energy.measured_seconds > 8 * 0.25
    assert energy.joules * 8 == pytest.approx(100 * energy.measured_seconds)
    assert energy.above_idle_joules == pytest.approx(0.7 * energy.joules)


def test_one_reading_of_the_power_is_no_energy():
    class Once(FakeMeter):
        def power_w(self):
            watts, self.watts = self.watts, None
            return watts

    with pytest.raises(MeterError, match=r"^NVML: this GPU gives neither energy nor power$"):
        measured(Once(counts=False))


def test_work_of_before_is_waited_for_and_all_own_work_is_counted():
    class Queue(FakeMeter):
        queued = 1  # somebody else's step

        def step(self):
            self.queued += 1

        def wait(self):
            self.seconds += 0.25 * self.queued
            self.queued = 0

    fake = Queue()
    energy = measure_energy(fake, fake.step, fake.wait, 0.25, None, 2.0, fake.timing).energy
    assert (energy.joules, energy.measured_seconds) == (25.0, 2.0)


def test_idle_power_is_read_all_second_long():
    class Rising(FakeMeter):
        def power_w(self):
            return 10 + 20 * self.seconds  # 10 W to 30 W in the second

    fake = Rising()
    assert idle_power_w(fake, timing=fake.timing) == pytest.approx(20, abs=0.5)


def test_a_failure_that_passes_is_still_told(monkeypatch):
    fake = FakeMeter()
    monkeypatch.setattr(meter, "INTERVAL_S", 0.0005)
    sampler, answer = Sampler(fake), fake.power_w

    def fail():
        raise MeterError("NVML: lost")

    def use():
        with sampler:
            fake.power_w = fail
            sampler._thread.join()
            fake.power_w = answer

    with pytest.raises(MeterError, match="NVML: lost"):
        use()


def test_two_windows_that_do_not_agree_are_no_measurement_and_both_are_told():
    class Warming(FakeMeter):
        def energy_mj(self):
            return round(1000 * (100 * self.seconds + 10 * self.seconds**2))  # 100 W that rise by 20 W in a second

    # 0 to 2 s: 240 J in 8 steps; 2 to 3 s: 150 J in 4
    with pytest.raises(MeterError, match=r"two windows within 5%; got 30 J over 2 s and 37.5 J over 1 s"):
        measured(Warming())


def test_the_second_window_stands_beside_the_first():
    energy = measured(FakeMeter())
    assert (energy.shorter_joules, energy.shorter_seconds) == (25.0, 1.0)


def test_a_window_of_too_few_steps_of_the_counter_is_refused():
    readings = [1000 * (count // 10) for count in range(300)]  # 10 readings for each step of 1 J
    assert counter_step_j(readings, 50.0) == 1.0
    with pytest.raises(MeterError, match=r"at least 50 of its steps; measure for longer; got 49 J, steps of 1 J"):
        counter_step_j(readings, 49.0)
    with pytest.raises(MeterError, match="got 50 J, steps of 0 J"):
        counter_step_j([7] * 300, 50.0)


def test_too_few_readings_say_nothing_of_the_counter():
    assert counter_step_j([0, 1000], 1.0) is None


def test_clocks_are_medians_and_lowest_temperature_the_highest_reasons_all():
    states = [State(1500.0, 800.0, 60.0), State(1200.0, 800.0, 66.0, ("sync boost",)), State(1400.0, None, None)]
    found = conditions_of(states)
    assert (found.sm_clock_mhz, found.lowest_sm_clock_mhz) == (1400.0, 1200.0)
    assert (found.memory_clock_mhz, found.temperature_c, found.throttled) == (800.0, 66.0, ("sync boost",))
    assert conditions_of([State()]).temperature_c is None
