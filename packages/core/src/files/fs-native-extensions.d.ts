/** The part of npm `fs-native-extensions` that is used here. On Linux these are open-file-description locks. */
declare module 'fs-native-extensions' {
  /** Exclusive unless `shared`; false when another open file description holds a conflicting lock. */
  export function tryLock(fd: number, offset: number, length: number, options?: { readonly shared?: boolean }): boolean
  export function unlock(fd: number, offset: number, length: number): void
}
