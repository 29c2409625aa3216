/** Loads the modules of all daemons, so that Node's compile cache holds them before the first one starts; nothing runs. */

/** Reads everything that a daemon's process loads. */
export async function loadDaemons(): Promise<void> {
  await Promise.all([
    import('./daemon.ts'),
    import('./tree.ts'),
    import('./programs.ts'),
    import('../stratum/main.ts'),
    import('../stratum/control/control.ts'),
    import('../stratum/parent.ts'),
    import('../stratum/worker.ts'),
    import('../core/node/template-worker.ts'),
    import('../core/log/packer.ts'),
    import('../core/log/packer-thread.ts'),
    import('../chain/main.ts'),
    import('../relay/main.ts'),
    import('../consumers/main.ts'),
    import('../api/main.ts'),
  ]);
}
