/** Thrown where a simulated process dies, and by whatever it still does after that. */
export class SimulatedCrash extends Error {
  override readonly name = 'SimulatedCrash'
}
