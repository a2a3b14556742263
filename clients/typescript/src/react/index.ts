export { ConnectionHealthMonitor, type ConnectionHealthMonitorProps } from './ConnectionHealthMonitor.js';
export { ConnectionStatusIndicator, type ConnectionStatusIndicatorProps } from './ConnectionStatusIndicator.js';
export { useHealth, type HealthView } from './useHealth.js';
export { useWaystation, type Session, type UseWaystation, type UseWaystationOptions } from './useWaystation.js';
