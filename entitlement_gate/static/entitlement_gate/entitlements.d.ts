/** See `entitlements.js`, which says what each of these does. */

export interface Entitlement {
  readonly name: string;
  readonly allowed: boolean;
  readonly reason: string;
  readonly type: string | null;
  readonly units: string | null;
  readonly limit: string | null;
  readonly used: string | null;
  readonly remaining: string | null;
  readonly unlimited: boolean;
  readonly active_from: string | null;
  readonly expires_at: string | null;
}

export interface Known {
  readonly customer_id: string | null;
  readonly entitlements: readonly Entitlement[];
}

export class Entitlements {
  constructor(url: string, known?: Known | null);
  static fromPage(url: string, id?: string): Entitlements;
  readonly all: ReadonlyMap<string, Entitlement>;
  readonly customerId: string | null;
  readonly isStale: boolean;
  has(name: string, quantity?: number | string): boolean;
  remaining(name: string): number | null;
  refresh(): Promise<boolean>;
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
  subscribe: (listener: () => void) => () => void;
  bind(root?: ParentNode): () => void;
}
