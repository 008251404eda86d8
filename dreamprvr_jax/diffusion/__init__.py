"""The one diffusion process of the project: schedule, process, sampler."""
