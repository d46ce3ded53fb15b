/** Waits for something another part of the program, or the kernel, is about to do. The test's own timeout bounds it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1))
}

/** Lets everything that is under way on loopback arrive, for promises that something does *not* happen. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setTimeout(resolve, 1))
}
