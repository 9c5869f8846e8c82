/** The address of --listen: HOST:PORT, with an IPv6 address in brackets; loopback where no host is named. */
import { CliUsageError } from './errors.js';

/** Where a command listens. */
export interface ListenAddress {
  readonly host: string;
  /** 0 for any that is free. */
  readonly port: number;
}

const LOOPBACK = '127.0.0.1';
const MOST = 65535;

/** Reads `HOST:PORT`, `:PORT` or `PORT`. @throws CliUsageError BAD_VALUE. */
export function parseListenAddress(text: string): ListenAddress {
  const [, bracketed, plain, digits] =
    /^(?:(?:\[([^\]]+)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(text.trim()) ?? [];
  const port = Number(digits ?? 'none');
  if (!(port <= MOST)) {
    const rule = 'HOST:PORT is wanted, with a port of 0 to 65535; 0 takes one that is free';
    throw new CliUsageError('BAD_VALUE', `--listen ${text}: ${rule}`, { name: 'listen' });
  }
  const host = bracketed ?? plain ?? '';
  return { host: host === '' ? LOOPBACK : host, port };
}

/** The address in the form in which it is typed. */
export function shownAddress({ host, port }: ListenAddress): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}
