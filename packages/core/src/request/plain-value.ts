/**
 * Values that cross the network unchanged: what a procedure takes and returns.
 * Arrays and plain objects of null, undefined, boolean, number, bigint, string, bytes (`Uint8Array`), `Date`.
 */
export type PlainValue =
  | null
  | undefined
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Date
  | readonly PlainValue[]
  | { readonly [key: string]: PlainValue }
