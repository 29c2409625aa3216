/** The whole table. */
import type { Case } from '../case.ts';
import { DIFFICULTY } from './difficulty.ts';
import { HANDSHAKE } from './handshake.ts';
import { LINES } from './lines.ts';
import { MINERS } from './miners.ts';
import { RENTAL } from './rental.ts';
import { SHARES } from './shares.ts';
import { SOLO } from './solo.ts';

export const CASES: readonly Case[] = [...LINES, ...HANDSHAKE, ...SHARES, ...DIFFICULTY, ...RENTAL, ...MINERS, ...SOLO];
