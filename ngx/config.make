# Read by nginx's auto/make: adds the rules for objs/ngx_ws_exec.so, or for the archive that is linked into nginx, to
# objs/Makefile.

case "$NGX_MODULES_PATH" in
    /*) ngx_ws_exec_path=$NGX_MODULES_PATH ;;
    *)  ngx_ws_exec_path=$NGX_PREFIX/$NGX_MODULES_PATH ;;
esac

# cargo knows best whether anything has changed, so it is always asked. It is called in the module's own folder, where the
# configuration of cargo is found that comes with it. The results are put in place by a rename: a running nginx may have the
# old file mapped.

cat << END                                                    >> $NGX_MAKEFILE

.PHONY:	ngx_ws_exec

ngx_ws_exec:	$NGX_AUTO_CONFIG_H
	source=\`pwd\` && build=\`cd $NGX_OBJS && pwd\` && cd $ngx_addon_dir/.. && \\
		NGINX_SOURCE_DIR="\$\$source" NGINX_BUILD_DIR="\$\$build" \\
		CARGO_TARGET_DIR="\$\$build/ngx_ws_exec" \\
END

# Both are set where the module is linked into nginx: configure leaves the name of the archive, and the folder is among
# those of --add-module.
ngx_ws_exec_static=
for ngx_ws_exec_dir in $NGX_ADDONS
do
    [ "$ngx_ws_exec_dir" != "$ngx_addon_dir" ] || ngx_ws_exec_static=YES
done

if [ "$ngx_ws_exec_static" = YES ]; then

    cat << END                                                >> $NGX_MAKEFILE
		${CARGO:-cargo} rustc --locked --release --features static --lib --crate-type staticlib

$NGX_OBJS/nginx:	ngx_ws_exec

END

else

    cat << END                                                >> $NGX_MAKEFILE
		${CARGO:-cargo} build --locked --release --features module --lib
	cp -p $NGX_OBJS/ngx_ws_exec/release/libngx_ws_exec.so \\
		$NGX_OBJS/ngx_ws_exec.so.new
	mv $NGX_OBJS/ngx_ws_exec.so.new $NGX_OBJS/ngx_ws_exec.so

.PHONY:	install_ngx_ws_exec

modules:	ngx_ws_exec

install:	install_ngx_ws_exec

install_ngx_ws_exec:	ngx_ws_exec
	mkdir -p '\$(DESTDIR)$ngx_ws_exec_path'
	cp $NGX_OBJS/ngx_ws_exec.so '\$(DESTDIR)$ngx_ws_exec_path/ngx_ws_exec.so.new'
	mv '\$(DESTDIR)$ngx_ws_exec_path/ngx_ws_exec.so.new' \\
		'\$(DESTDIR)$ngx_ws_exec_path/ngx_ws_exec.so'

END

fi
