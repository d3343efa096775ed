// What a dashboard's address says: range, refresh, variables, the panel that is shown alone.

export interface Address { from: string; to: string; refresh: string | null; variables: Record<string, string[]>; panel: number | null }

export function read(text: string): Address {
  const given = new URLSearchParams(text);
  const variables: Record<string, string[]> = {};
  for (const [key, value] of given) if (key.startsWith("var-")) (variables[key.slice(4)] ??= []).push(value);
  const panel = Number((given.get("viewPanel") ?? "").replace(/^panel-/, "") || NaN);
  return {
    from: given.get("from") ?? "", to: given.get("to") ?? "", refresh: given.get("refresh"), variables,
    panel: Number.isSafeInteger(panel) ? panel : null,
  };
}

export function write(address: Address): string {
  const out = new URLSearchParams();
  if (address.from) out.set("from", address.from);
  if (address.to) out.set("to", address.to);
  if (address.refresh !== null) out.set("refresh", address.refresh);
  for (const [name, values] of Object.entries(address.variables)) for (const value of values) out.append(`var-${name}`, value);
  if (address.panel !== null) out.set("viewPanel", String(address.panel));
  const text = out.toString();
  return text ? `?${text}` : "";
}

/** The part of the address that decides what is asked of the server. */
export const search = (address: Address): string => write({ ...address, refresh: null });
