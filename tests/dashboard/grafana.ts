// The part of Grafana's form of a dashboard that conf/monitoring uses: panels of two kinds, with queries to a Prometheus. Options of a
// "stat" are completed by Grafana with what they are by default.
import type { Dashboard as Any, FieldConfig, Panel } from "./types/raw/dashboard/x/types.gen";
import type { Options as StatOptions } from "./types/raw/composable/stat/panelcfg/x/types.gen";
import type {
  FieldConfig as SeriesConfig,
  Options as SeriesOptions,
} from "./types/raw/composable/timeseries/panelcfg/x/types.gen";

interface Query {
  refId: string;
  datasource: { type: "prometheus"; uid: "${datasource}" };
  expr: string;
  legendFormat: string;
  instant?: boolean;
}

interface PanelOf<Kind extends string, Options, Custom> extends Omit<
  Panel,
  "type" | "options" | "fieldConfig" | "targets" | "datasource"
> {
  type: Kind;
  datasource: Query["datasource"];
  options: Options;
  fieldConfig: { defaults: Omit<FieldConfig, "custom"> & { custom?: Custom }; overrides: [] };
  targets: Query[];
}

// A single value has no line of its past to be drawn.
type Stat = PanelOf<"stat", Partial<StatOptions> & { graphMode: "none" }, never>;
type Series = PanelOf<"timeseries", SeriesOptions, SeriesConfig>;

export interface Dashboard extends Omit<Any, "panels"> {
  panels: (Stat | Series)[];
}
